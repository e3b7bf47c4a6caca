//! The table of faults in `docs/faults.md`, printed from the kinds.

use crate::fault::{Harm, Kills, Kind, Needs};

/// The table in Markdown. A test compares it with the document.
#[must_use]
pub fn table(kinds: &[Kind]) -> String {
    let mut text = String::from(
        "| Fault | Description | Needs | Harm to a correct dispatcher | Abandoned attempts |\n\
         |---|---|---|---|---|\n",
    );
    for kind in kinds {
        text += &row(kind);
    }
    text
}

fn row(kind: &Kind) -> String {
    format!(
        "| `{}` | {} | {} | {} | {} |\n",
        kind.name,
        kind.about,
        listed(&needs(&kind.needs)),
        listed(&harm(&kind.harm)),
        kind.harm.abandons_max
    )
}

fn needs(needs: &Needs) -> Vec<&'static str> {
    let named = [
        (needs.links, "proxy"),
        (needs.own_postgres, "dedicated Postgres"),
        (needs.small_disk, "root"),
        (needs.clock, "libfaketime"),
        (needs.hosts, "mount namespace"),
    ];
    chosen(&named)
}

fn harm(harm: &Harm) -> Vec<&'static str> {
    let named = [
        (harm.kills == Kills::OneAttempt, "ends one attempt"),
        (harm.kills == Kills::WorkerOnce, "kills a worker once"),
        (harm.kills == Kills::WorkersUntilHealed, "kills a worker several times"),
        (harm.stops_workers, "stops workers"),
        (harm.expires_leases, "expires leases"),
        (harm.loses_settles, "loses settles"),
        (harm.loses_presence, "loses presence"),
        (harm.loses_requests, "loses requests"),
        (harm.withholds_responses, "withholds responses"),
        (harm.exhausts_machine, "exhausts the machine"),
        (harm.logs_errors, "logs errors"),
        (harm.denies_database, "denies the database"),
    ];
    chosen(&named)
}

fn chosen(named: &[(bool, &'static str)]) -> Vec<&'static str> {
    let chosen = named.iter().filter(|(is_chosen, _)| *is_chosen);
    chosen.map(|(_, name)| *name).collect()
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() {
        return "–".to_owned();
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::path::Path;

    use super::*;
    use crate::nemesis::KINDS;

    const BEGIN: &str = "<!-- faults: printed from the kinds -->\n";
    const END: &str = "<!-- end -->";

    // A reader of the document must see the harm that checkers accept.
    #[test]
    fn table_in_the_document_is_the_table_of_the_kinds() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/faults.md");
        let text = std::fs::read_to_string(&path).unwrap();
        let (before, rest) = text.split_once(BEGIN).unwrap();
        let (_, after) = rest.split_once(END).unwrap();
        let fresh = format!("{before}{BEGIN}{}{END}{after}", table(KINDS));
        if std::env::var_os("REWRITE_TABLES").is_some() {
            std::fs::write(&path, fresh).unwrap();
            return;
        }
        let rewrite = "REWRITE_TABLES=1 cargo test -p chaos --lib nemesis::table";
        assert!(text == fresh, "docs/faults.md is stale: run {rewrite}");
    }
}
