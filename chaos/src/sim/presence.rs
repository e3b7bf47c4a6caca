//! The presence of a simulated worker, as the worker uses it.

use std::sync::Arc;

use dispatcher::store::Presence;

use super::failpoint::{Call, Stage};
use super::store::SimStore;

impl Presence for SimStore {
    async fn held(&self) {
        self.hit(Call::Present, Stage::Sent).await;
        loop {
            let presence_held = {
                let state = self.context.state();
                let process = &state.processes[self.process];
                if process.is_present {
                    break;
                }
                Arc::clone(&process.presence_held)
            };
            presence_held.notified().await;
        }
    }

    fn is_held(&self) -> bool {
        let state = self.context.state();
        let process = &state.processes[self.process];
        process.life == self.life && process.is_present
    }

    fn renew(&self) {
        let mut state = self.context.state();
        let process = &state.processes[self.process];
        if process.life == self.life && process.is_present {
            state.lose_presence(self.process);
            state.take_presence(self.process);
        }
    }
}
