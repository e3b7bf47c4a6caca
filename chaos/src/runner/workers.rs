//! The workers of a run: which processes there are, what each is told, where each is heard.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use super::Site;
use crate::history::op::Section;
use crate::schedule::Schedule;
use crate::system::{WorkerSpec, free_port};
use crate::workload::Apis;

/// The planned workers and their APIs.
pub(super) struct Workers {
    specs: Vec<(Section, WorkerSpec)>,
    main: Vec<WorkerSpec>,
    apis: BTreeMap<Section, Apis>,
}

impl Workers {
    /// The workers that the schedule needs on this site.
    pub(super) fn plan(schedule: &Schedule, site: &Site) -> Workers {
        let main: Vec<WorkerSpec> = (0..schedule.profile.workers)
            .map(|number| {
                let env = schedule.profile.main_settings().env();
                spec(schedule, site, Section::Main, format!("w{number}"), env)
            })
            .collect();
        let mut specs: Vec<(Section, WorkerSpec)> = main
            .iter()
            .map(|spec| (Section::Main, spec.clone()))
            .collect();
        if schedule.section(Section::Defaults).next().is_some() {
            // No setting at all: what is shown is what the dispatcher does by itself.
            let env = BTreeMap::new();
            let spec = spec(
                schedule,
                site,
                Section::Defaults,
                "defaults".to_owned(),
                env,
            );
            specs.push((Section::Defaults, spec));
        }
        let apis = specs.iter().map(|(section, _)| *section).map(|section| {
            let of_section = specs.iter().filter(move |(of, _)| *of == section);
            let api =
                |(_, s): &(Section, WorkerSpec)| (s.name.clone(), format!("http://{}", s.bind));
            (section, Apis::new(of_section.map(api)))
        });
        let apis = apis.collect();
        Workers { specs, main, apis }
    }

    /// Every worker with its section.
    pub(super) fn specs(&self) -> &[(Section, WorkerSpec)] {
        &self.specs
    }

    /// The workers of the main section.
    pub(super) fn main(&self) -> &[WorkerSpec] {
        &self.main
    }

    /// The sections that there are.
    pub(super) fn sections(&self) -> impl Iterator<Item = &Section> {
        self.apis.keys()
    }

    /// The APIs of a section.
    pub(super) fn apis(&self, section: Section) -> Apis {
        self.apis
            .get(&section)
            .cloned()
            .unwrap_or_else(|| Apis::new([]))
    }
}

fn spec(
    schedule: &Schedule,
    site: &Site,
    section: Section,
    name: String,
    mut env: BTreeMap<String, String>,
) -> WorkerSpec {
    env.insert("WEBHOOK_SECRET".into(), schedule.secret.clone());
    env.insert("ALLOWED_TARGET_CIDRS".into(), "127.0.0.0/8".into());
    // The log is a file for people and programs.
    env.insert("NO_COLOR".into(), "1".into());
    if let Some(url) = site.databases.get(&section) {
        env.insert("DATABASE_URL".into(), url.clone());
    }
    let log = site.dir.join(format!("worker-{name}.log"));
    // Given by the system and free a moment ago; a worker that cannot bind says so in its log.
    let bind = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    WorkerSpec {
        name,
        env,
        bind,
        log,
    }
}
