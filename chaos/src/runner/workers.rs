//! The workers of a run: which processes there are, what each is told, where each is heard.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use super::Site;
use crate::history::op::Section;
use crate::host::free_port;
use crate::links::{self, Links};
use crate::schedule::Schedule;
use crate::system::WorkerSpec;
use crate::workload::Apis;

/// How a worker is told its database.
const DATABASE_URL: &str = "DATABASE_URL";

/// The planned workers, their APIs and their links.
pub(super) struct Workers {
    specs: Vec<(Section, WorkerSpec)>,
    main: Vec<WorkerSpec>,
    apis: BTreeMap<Section, Apis>,
    links: Links,
}

impl Workers {
    /// The workers that the schedule needs on this site; those of the main section over their links.
    ///
    /// # Errors
    /// When a link cannot be had.
    pub(super) fn plan(schedule: &Schedule, site: &Site, mut links: Links) -> io::Result<Workers> {
        let mut main = Vec::new();
        for number in 0..schedule.profile.workers {
            let env = schedule.profile.main_settings().env();
            let mut spec = spec(schedule, site, Section::Main, format!("w{number}"), env);
            if let Some(url) = spec.env.get_mut(DATABASE_URL) {
                *url = links.lead_to_database(links::to_postgres(number), url)?;
            }
            main.push(spec);
        }
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
        let mut apis = BTreeMap::new();
        for (section, spec) in specs
            .iter()
            .filter(|(section, _)| *section != Section::Main)
        {
            apis.insert(*section, vec![(spec.name.clone(), spec.bind)]);
        }
        for (spec, number) in main.iter().zip(0..) {
            let api = links.lead(links::to_api(number), spec.bind)?;
            let of_main: &mut Vec<_> = apis.entry(Section::Main).or_default();
            of_main.push((spec.name.clone(), api));
        }
        let url = |(name, address)| (name, format!("http://{address}"));
        let of_section = |(section, apis): (Section, Vec<(String, SocketAddr)>)| {
            (section, Apis::new(apis.into_iter().map(url)))
        };
        let apis = apis.into_iter().map(of_section).collect();
        Ok(Workers {
            specs,
            main,
            apis,
            links,
        })
    }

    /// Every worker with its section.
    pub(super) fn specs(&self) -> &[(Section, WorkerSpec)] {
        &self.specs
    }

    /// The workers of the main section.
    pub(super) fn main(&self) -> &[WorkerSpec] {
        &self.main
    }

    /// The ways over which the main section goes.
    pub(super) fn links(&self) -> &Links {
        &self.links
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
        env.insert(DATABASE_URL.into(), url.clone());
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
