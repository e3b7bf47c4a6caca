//! The first line of a history: everything that checkers need to know of the plan.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Schedule;
use crate::fault::Planned;
use crate::history::op::RunStart;
use crate::history::sha256_hex;
use crate::plan::Section;
use crate::profile::Settings;

impl<F: Planned + Serialize + DeserializeOwned> Schedule<F> {
    /// The start of a history of this plan.
    #[must_use]
    pub fn run_start(&self) -> RunStart {
        let hangs_planned = self
            .section(Section::Main)
            .flat_map(|event| &event.script)
            .any(|behavior| behavior.kind().starts_with("hang"));
        let failures_planned = self.section(Section::Main).any(|event| event.script.len() > 1);
        let mut sections = BTreeMap::from([(Section::Main, self.main_settings())]);
        if self.section(Section::Defaults).next().is_some() {
            sections.insert(Section::Defaults, Settings::defaults());
        }
        RunStart {
            seed: self.seed,
            profile: self.profile.name.clone(),
            schedule_sha256: sha256_hex(self.to_text().as_bytes()),
            sections,
            kills_required: self.kills_required(),
            faults_planned: self.faults_planned(),
            deaths: self.deaths(),
            failures_planned,
            hangs_planned,
        }
    }
}
