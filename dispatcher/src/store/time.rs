//! Reads times that an operator may have written by hand.
//!
//! Postgres has `infinity` and years up to 294276, and the decoder of sqlx panics on both. A panic
//! would end the worker, at every start again. Times outside of RFC 3339 are moved to its ends.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer};
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgTypeInfo, PgValueFormat, PgValueRef};
use sqlx::{Decode, Postgres, Type};

/// 2000-01-01, from which Postgres counts, in microseconds of Unix time.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

/// 0001-01-01 and 9999-12-31T23:59:59.999999, the ends of RFC 3339, in microseconds of Unix time.
const RFC_3339_US: [i64; 2] = [-62_135_596_800_000_000, 253_402_300_799_999_999];

/// A `timestamptz` within RFC 3339.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoredTime(pub DateTime<Utc>);

impl Type<Postgres> for StoredTime {
    fn type_info() -> PgTypeInfo {
        <DateTime<Utc> as Type<Postgres>>::type_info()
    }
}

impl Decode<'_, Postgres> for StoredTime {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        if value.format() != PgValueFormat::Binary {
            return Err("a time in text format".into());
        }
        let postgres_us = i64::from_be_bytes(value.as_bytes()?.try_into()?);
        Ok(Self(from_postgres_us(postgres_us)))
    }
}

fn from_postgres_us(us: i64) -> DateTime<Utc> {
    let [first, last] = RFC_3339_US;
    let us = us.saturating_add(POSTGRES_EPOCH_US).clamp(first, last);
    DateTime::from_timestamp_micros(us).expect("chrono knows the years of RFC 3339")
}

/// In UTC with the precision of Postgres, microseconds (RFC 3339).
impl Serialize for StoredTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_rfc3339_opts(SecondsFormat::Micros, true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn infinity_becomes_the_nearest_time_of_rfc_3339() {
        let texts = [i64::MIN, i64::MAX, 0].map(|us| from_postgres_us(us).to_rfc3339());
        let expected = [
            "0001-01-01T00:00:00+00:00",
            "9999-12-31T23:59:59.999999+00:00",
            "2000-01-01T00:00:00+00:00",
        ];
        assert_eq!(texts, expected);
    }
}
