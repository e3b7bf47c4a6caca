//! Permitted imports: the invariants of `docs/ARCHITECTURE.md` as a table.
//!
//! A rule looks at single lines. `cycles` checks the rules that follow uses from file to file.

use super::tree::{self, Tree};

/// In the files `within`, except those in `except`, no line may use one of `names`.
struct Rule {
    within: &'static [&'static str],
    except: &'static [&'static str],
    names: &'static [&'static str],
    reason: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        within: &["dispatcher/", "mock-receiver/"],
        except: &[],
        names: &["chaos", "proofs", "benches"],
        reason: "dispatcher and receiver import no crate of the workspace",
    },
    Rule {
        within: &["dispatcher/"],
        except: &[],
        names: &["mock_receiver"],
        reason: "dispatcher and receiver import no crate of the workspace",
    },
    Rule {
        within: &["mock-receiver/"],
        except: &[],
        names: &["dispatcher"],
        reason: "the receiver verifies signatures with its own code",
    },
    Rule {
        within: &["chaos/src/"],
        except: &["chaos/src/sim"],
        names: &["dispatcher"],
        reason: "the real tier uses HTTP, a process and a database, so it can test other products",
    },
    Rule {
        within: &["dispatcher/src/"],
        except: &["dispatcher/src/store"],
        names: &["sqlx"],
        reason: "only store talks to Postgres",
    },
    Rule {
        within: &["dispatcher/src/"],
        except: &["dispatcher/src/api"],
        names: &["axum"],
        reason: "only api serves HTTP",
    },
    Rule {
        within: &["dispatcher/src/"],
        except: &["dispatcher/src/transport"],
        names: &["hyper::client", "hyper_util::client"],
        reason: "only transport contains an HTTP client",
    },
    Rule {
        within: &["dispatcher/src/"],
        except: &[],
        names: &["reqwest"],
        reason: "the dispatcher has one HTTP client, hyper",
    },
    Rule {
        within: &[
            "dispatcher/src/event",
            "dispatcher/src/signature",
            "dispatcher/src/backoff",
            "dispatcher/src/target",
        ],
        except: &[],
        names: &["sqlx", "axum", "reqwest", "hyper", "hyper_util", "tokio"],
        reason: "these modules decide and do no IO",
    },
    Rule {
        within: &["dispatcher/src/api"],
        except: &[],
        names: &["crate::worker", "super::worker"],
        reason: "api and worker meet only in Postgres",
    },
    Rule {
        within: &["dispatcher/src/worker"],
        except: &[],
        names: &["crate::api", "super::api"],
        reason: "api and worker meet only in Postgres",
    },
    Rule {
        within: &["chaos/src/"],
        except: &["chaos/src/seed"],
        names: &["from_seed(", "seed_from_u64(", "make_rng(", "from_rng("],
        reason: "only seed.rs creates a random number generator, so one number repeats a run",
    },
    Rule {
        within: &["chaos/src/nemesis/"],
        except: &[],
        names: &["Op::FaultStart(", "Op::FaultEffect(", "Op::FaultEnd(", "Op::FaultSkip("],
        reason: "only nemesis.rs records faults",
    },
];

/// Returns a finding for every line that breaks a rule.
pub(super) fn forbidden(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, text) in tree.rust() {
        let rules: Vec<&Rule> = RULES.iter().filter(|rule| rule.covers(path)).collect();
        for (at, line) in tree::code(tree::without_tests(text)) {
            let named = rules.iter().filter_map(|rule| Some((rule, rule.named_in(&line)?)));
            let finding = |(rule, name): (&&Rule, &str)| {
                format!("{path}:{at}: uses {name}, but {}", rule.reason)
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

/// Returns true if the line has the name as a whole word in a path or `use`. A name that ends with
/// `(` is a call.
fn names(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = &line[at + name.len()..];
        let is_word = !before.is_some_and(|c| c.is_alphanumeric() || c == '_');
        // `crate::dispatcher` is a module, not the crate of that name.
        let is_root = name.contains("::") || before != Some(':') || line[..at].ends_with(" ::");
        let is_path =
            after.starts_with("::") || (line.trim_start().contains("use ") && ends(after));
        is_word && (name.ends_with('(') || (is_path && is_root))
    })
}

fn ends(after: &str) -> bool {
    after.is_empty() || after.starts_with([';', ',', '}', ' '])
}
