//! The macro `faults!` and the text form of a fault.
//!
//! One line of the list registers a fault: it becomes a variant of `Fault`, a kind of `KINDS`, a
//! value of `f` in schedules, and an arm of draw, strike and heal. `mod` lines are written by hand,
//! because rustfmt skips modules that a macro declares.

use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::plan::PlannedFault;

macro_rules! faults {
    ($($module:ident::$fault:ident,)*) => {
        $(pub use $module::$fault;)*

        /// A fault of the real tier with its parameters.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Fault {
            $(
                #[doc = concat!("The kind of `nemesis/", stringify!($module), ".rs`.")]
                $fault($fault),
            )*
        }

        /// Every kind of fault of the real tier, in the order of `chaos list`.
        pub const KINDS: &[Kind] = &[$(<$fault as Strike>::KIND,)*];

        $(impl $fault {
            /// Name, family, description, needs and harm.
            pub const KIND: Kind = <$fault as Strike>::KIND;
        })*

        impl Planned for Fault {
            const KINDS: &'static [Kind] = KINDS;

            fn kind(&self) -> Kind {
                match self {
                    $(Self::$fault(_) => $fault::KIND,)*
                }
            }

            fn events(&self) -> u64 {
                match self {
                    $(Self::$fault(fault) => fault.events(),)*
                }
            }
        }

        impl Fault {
            /// Draws every fault of a run, kind by kind.
            fn draw_kinds(draw: &Draw<'_>) -> Vec<PlannedFault> {
                let mut faults = Vec::new();
                $(faults.extend(registry::planned($fault::draw(draw), Self::$fault));)*
                faults
            }

            fn target(&self) -> Target {
                match self {
                    $(Self::$fault(fault) => fault.target(),)*
                }
            }

            async fn strike<S: System>(
                &self,
                world: &mut World<'_, S>,
                start: &Start,
            ) -> Result<Observed, SystemError> {
                match self {
                    $(Self::$fault(fault) => fault.strike(world, start).await,)*
                }
            }

            async fn heal<S: System>(&self, world: &mut World<'_, S>) -> Result<(), SystemError> {
                match self {
                    $(Self::$fault(fault) => fault.heal(world).await,)*
                }
            }
        }

        impl Serialize for Fault {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                match self {
                    $(Self::$fault(fault) => registry::write(&$fault::KIND, fault, to),)*
                }
            }
        }

        impl<'de> Deserialize<'de> for Fault {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = registry::Text::read(from)?;
                $(if text.is_of(&$fault::KIND) {
                    return text.parameters().map(Self::$fault);
                })*
                Err(text.unknown())
            }
        }
    };
}

pub(super) use faults;

/// Wraps the drawn faults of one kind.
pub(super) fn planned<F, G>(
    drawn: Vec<PlannedFault<F>>,
    wrap: fn(F) -> G,
) -> impl Iterator<Item = PlannedFault<G>> {
    drawn
        .into_iter()
        .map(move |planned| PlannedFault { trigger: planned.trigger, fault: wrap(planned.fault) })
}

/// Writes a fault as one object: the name of its kind as `f`, then its parameters.
pub(super) fn write<F: Serialize, S: serde::Serializer>(
    kind: &crate::fault::Kind,
    fault: &F,
    to: S,
) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Tagged<'f, F> {
        f: &'f str,
        #[serde(flatten)]
        parameters: &'f F,
    }
    let tagged = Tagged { f: kind.name, parameters: fault };
    tagged.serialize(to)
}

/// A fault that has been read and whose kind is not known yet.
#[derive(Deserialize)]
pub(super) struct Text {
    f: String,
    #[serde(flatten)]
    parameters: Map<String, Value>,
}

impl Text {
    pub(super) fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::deserialize(from)
    }

    /// Returns true if the name is the one of this kind.
    pub(super) fn is_of(&self, kind: &crate::fault::Kind) -> bool {
        self.f == kind.name
    }

    /// The parameters of the fault.
    ///
    /// # Errors
    /// Names the kind and the parameter that is missing or malformed.
    pub(super) fn parameters<F: DeserializeOwned, E: Error>(self) -> Result<F, E> {
        serde_json::from_value(Value::Object(self.parameters))
            .map_err(|error| E::custom(format!("parameters of {}: {error}", self.f)))
    }

    /// The error of a name that no kind has.
    pub(super) fn unknown<E: Error>(&self) -> E {
        E::custom(format!("{:?} is not a fault: `chaos list` names every fault", self.f))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use crate::nemesis::{Fault, KINDS, KillWorker};

    #[test]
    fn fault_is_one_object_with_its_name_first() {
        let kill = Fault::KillWorker(KillWorker { worker: 1, restart_after_ms: 20 });
        let text = serde_json::to_string(&kill).unwrap();
        assert_eq!(text, r#"{"f":"worker.kill","worker":1,"restart_after_ms":20}"#);
        assert_eq!(serde_json::from_str::<Fault>(&text).unwrap(), kill);
    }

    #[test]
    fn unknown_fault_or_parameter_is_an_error_that_names_it() {
        let error = |text| serde_json::from_str::<Fault>(text).unwrap_err().to_string();
        let unknown = error(r#"{"f":"worker.vanish"}"#);
        assert!(unknown.contains(r#""worker.vanish" is not a fault"#), "{unknown}");
        let missing = error(r#"{"f":"worker.kill","worker":1}"#);
        let expected = "parameters of worker.kill: missing field `restart_after_ms`";
        assert!(missing.contains(expected), "{missing}");
    }

    // Profiles, schedules and histories find a kind by its name.
    #[test]
    fn no_two_kinds_share_a_name() {
        let mut names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), KINDS.len());
    }
}
