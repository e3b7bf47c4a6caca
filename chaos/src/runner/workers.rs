//! The workers of a run: their settings, their addresses and the links to them.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::environment::RunEnvironment;
use crate::fault::Link;
use crate::history::op::Section;
use crate::host::free_port;
use crate::links::Links;
use crate::nemesis::Schedule;
use crate::pair;
use crate::system::WorkerSpec;
use crate::workload::{API_KEY, Apis};

/// The setting with the database URL of a worker.
const DATABASE_URL: &str = "DATABASE_URL";

/// The planned workers, their APIs and their links.
pub(super) struct Workers {
    specs: Vec<(Section, WorkerSpec)>,
    main: Vec<WorkerSpec>,
    apis: BTreeMap<Section, Apis>,
    links: Links,
}

impl Workers {
    /// Plans the workers of a schedule. Those of the main section use links, so that faults can cut
    /// their connections.
    ///
    /// # Errors
    /// Returns an error if a link cannot listen.
    pub(super) fn plan(
        schedule: &Schedule,
        environment: &RunEnvironment,
        mut links: Links,
    ) -> io::Result<Self> {
        let hosts = schedule.needs_hosts().then(|| environment.dir.join("hosts"));
        if let Some(path) = &hosts {
            std::fs::write(path, pair::hosts())?;
        }
        let plan = Plan { schedule, environment, hosts };
        let mut main = Vec::new();
        let mut apis: BTreeMap<Section, Vec<Api>> = BTreeMap::new();
        for number in 0..schedule.profile.workers {
            let mut env = schedule.main_settings().env();
            env.insert("API_KEYS".into(), API_KEY.into());
            let mut spec = plan.spec(Section::Main, format!("w{number}"), env);
            if let Some(url) = spec.env.get_mut(DATABASE_URL) {
                *url = links.lead_to_database(Link::ToPostgres(number), url)?;
            }
            let address = links.lead(Link::ToApi(number), spec.bind)?;
            let api = Api::new(&spec, address);
            apis.entry(Section::Main).or_default().push(api);
            main.push(spec);
        }
        let of_main = main.iter().map(|spec| (Section::Main, spec.clone()));
        let mut specs: Vec<(Section, WorkerSpec)> = of_main.collect();
        if schedule.section(Section::Defaults).next().is_some() {
            // This worker gets no settings: it shows the behavior of the default settings.
            let spec = plan.spec(Section::Defaults, "defaults".to_owned(), BTreeMap::new());
            let api = Api::new(&spec, spec.bind);
            apis.entry(Section::Defaults).or_default().push(api);
            specs.push((Section::Defaults, spec));
        }
        apis.entry(Section::Main).or_default();
        let of_section = |(section, apis): (Section, Vec<Api>)| {
            let named = apis.into_iter().map(|api| (api.worker, api.url));
            (section, Apis::new(named))
        };
        Ok(Self { specs, main, apis: apis.into_iter().map(of_section).collect(), links })
    }

    /// All workers, each with its section.
    pub(super) fn specs(&self) -> &[(Section, WorkerSpec)] {
        &self.specs
    }

    pub(super) fn main(&self) -> &[WorkerSpec] {
        &self.main
    }

    pub(super) fn main_apis(&self) -> &Apis {
        &self.apis[&Section::Main]
    }

    /// The links of the main section.
    pub(super) fn links(&self) -> &Links {
        &self.links
    }

    pub(super) fn sections(&self) -> impl Iterator<Item = &Section> {
        self.apis.keys()
    }

    /// The APIs of a section that has workers.
    pub(super) fn apis(&self, section: Section) -> &Apis {
        &self.apis[&section]
    }
}

/// The address of the API of one worker.
struct Api {
    worker: String,
    url: String,
}

impl Api {
    fn new(spec: &WorkerSpec, address: SocketAddr) -> Self {
        Self { worker: spec.name.clone(), url: format!("http://{address}") }
    }
}

struct Plan<'a> {
    schedule: &'a Schedule,
    environment: &'a RunEnvironment,
    hosts: Option<PathBuf>,
}

impl Plan<'_> {
    fn spec(
        &self,
        section: Section,
        name: String,
        mut env: BTreeMap<String, String>,
    ) -> WorkerSpec {
        env.insert("WEBHOOK_SECRET".into(), self.schedule.secret.clone());
        env.insert("ALLOWED_TARGET_CIDRS".into(), "127.0.0.0/8".into());
        // The log is a file, where color codes make lines harder to read and to search.
        env.insert("NO_COLOR".into(), "1".into());
        if let Some(url) = self.environment.databases.get(&section) {
            env.insert(DATABASE_URL.into(), url.clone());
        }
        let log = self.environment.dir.join(format!("worker-{name}.log"));
        // The port was free a moment ago. A worker that cannot bind it exits and logs the reason.
        let bind = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let hosts = self.hosts.clone().filter(|_| section == Section::Main);
        WorkerSpec { name, env, bind, log, hosts }
    }
}
