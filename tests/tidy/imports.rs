//! Who may import whom: the invariants of docs/ARCHITECTURE.md as a table.

use super::tree::{self, Tree};

/// One invariant: in these files, outside those, none of these crates or modules is named.
struct Rule {
    within: &'static [&'static str],
    except: &'static [&'static str],
    names: &'static [&'static str],
    why: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        within: &["dispatcher/", "mock-receiver/"],
        except: &[],
        names: &["chaos", "proofs", "benches"],
        why: "the product and the receiver import nothing of ours",
    },
    Rule {
        within: &["dispatcher/"],
        except: &[],
        names: &["mock_receiver"],
        why: "the product and the receiver import nothing of ours",
    },
    Rule {
        within: &["mock-receiver/"],
        except: &[],
        names: &["dispatcher"],
        why: "the receiver's verification is a second opinion on the dispatcher's signature",
    },
    Rule {
        within: &["chaos/src/"],
        except: &["chaos/src/sim"],
        names: &["dispatcher"],
        why: "the real tier sees HTTP, a process and a database: it can test another product",
    },
    Rule {
        within: &["dispatcher/src/"],
        except: &["dispatcher/src/store"],
        names: &["sqlx"],
        why: "only store speaks to Postgres",
    },
    Rule {
        within: &["dispatcher/src/"],
        except: &["dispatcher/src/api"],
        names: &["axum"],
        why: "only api speaks HTTP to clients",
    },
    Rule {
        within: &["dispatcher/src/"],
        except: &["dispatcher/src/transport"],
        names: &["hyper::client", "hyper_util::client"],
        why: "only transport contains an HTTP client",
    },
    Rule {
        within: &["dispatcher/src/"],
        except: &[],
        names: &["reqwest"],
        why: "the dispatcher has one HTTP client, hyper",
    },
    Rule {
        within: &[
            "dispatcher/src/event",
            "dispatcher/src/signature",
            "dispatcher/src/backoff",
        ],
        except: &[],
        names: &["sqlx", "axum", "reqwest", "hyper", "hyper_util", "tokio"],
        why: "the deciding parts are pure",
    },
    Rule {
        within: &["dispatcher/src/api"],
        except: &[],
        names: &["crate::worker", "super::worker"],
        why: "api and worker meet in Postgres",
    },
    Rule {
        within: &["dispatcher/src/worker"],
        except: &[],
        names: &["crate::api", "super::api"],
        why: "api and worker meet in Postgres",
    },
    Rule {
        within: &[
            "chaos/src/checker",
            "chaos/src/history",
            "chaos/src/schedule",
        ],
        except: &[],
        names: &[
            "tokio",
            "sqlx",
            "reqwest",
            "std::fs",
            "std::net",
            "std::process",
        ],
        why: "a verdict and a plan are pure functions of their input",
    },
    Rule {
        within: &["chaos/src/"],
        except: &["chaos/src/seed"],
        names: &["from_seed(", "seed_from_u64(", "make_rng(", "from_rng("],
        why: "only seed.rs makes a source of chance, so that one number replays a run",
    },
];

/// Every line that breaks a rule.
pub(super) fn forbidden(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, text) in tree.rust() {
        let rules: Vec<&Rule> = RULES.iter().filter(|rule| rule.covers(path)).collect();
        for (at, line) in tree::code(tree::without_tests(text)) {
            let named = rules
                .iter()
                .filter_map(|rule| Some((rule, rule.named_in(&line)?)));
            let finding = |(rule, name): (&&Rule, &str)| {
                format!("{path}:{at}: names {name}, but {}", rule.why)
            };
            findings.extend(named.map(finding));
        }
    }
    findings
}

impl Rule {
    fn covers(&self, path: &str) -> bool {
        let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| path.starts_with(prefix));
        starts(self.within) && !starts(self.except)
    }

    fn named_in(&self, line: &str) -> Option<&'static str> {
        self.names.iter().copied().find(|name| names(line, name))
    }
}

/// A path (`name::…`, `use name;`), or a call where the name ends with `(`; as a whole word.
fn names(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = &line[at + name.len()..];
        let whole = !before.is_some_and(|c| c.is_alphanumeric() || c == '_');
        // `crate::dispatcher` would be a module of that name, not the crate.
        let root = name.contains("::") || before != Some(':') || line[..at].ends_with(" ::");
        let path = after.starts_with("::") || (line.trim_start().contains("use ") && ends(after));
        whole && (name.ends_with('(') || (path && root))
    })
}

fn ends(after: &str) -> bool {
    after.is_empty() || after.starts_with([';', ',', '}', ' '])
}
