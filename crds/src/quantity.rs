//! Amounts of processor, memory and disk, in Kubernetes' notation.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// An amount as a person writes it: `250m`, `2`, `512Mi`, `1.5Gi`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Amount(String);

/// The notation, as a schema can check it. Exponents are left out: nobody buys `1e9` of disk.
const PATTERN: &str = r"^([0-9]{1,12})(\.[0-9]{1,3})?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$";

const BINARY: [(&str, i128); 5] = [("Pi", 1 << 50), ("Ti", 1 << 40), ("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)];
const DECIMAL: [(&str, i128); 5] =
    [("P", 10_i128.pow(15)), ("T", 10_i128.pow(12)), ("G", 10_i128.pow(9)), ("M", 10_i128.pow(6)), ("k", 1000)];

impl Amount {
    /// Thousandths of the unit, if it is an amount at all.
    pub fn millis(&self) -> Option<i128> {
        let (number, scale) = self.split()?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() || fraction.len() > 3 || whole.len() > 12 {
            return None;
        }
        let whole: i128 = digits(whole)?;
        let fraction: i128 = digits(&format!("{fraction:0<3}"))?;
        // `m` is a thousandth already; fractions of it round up, as the API server does.
        match scale {
            None => Some(whole + i128::from(fraction > 0)),
            Some(scale) => Some((whole * 1000 + fraction) * scale),
        }
    }

    /// Whole units, rounded up: bytes of memory or disk.
    pub fn units(&self) -> Option<i128> {
        self.millis().map(|millis| (millis + 999) / 1000)
    }

    /// The same amount as the API server writes it back, so that comparing what we want with what is there finds
    /// no difference where there is none.
    #[must_use]
    pub fn canonical(&self) -> Self {
        let Some(millis) = self.millis() else {
            return self.clone();
        };
        if millis % 1000 != 0 {
            return Self(format!("{millis}m"));
        }
        let units = millis / 1000;
        let scales = if self.is_binary() { BINARY } else { DECIMAL };
        let scale = scales.into_iter().find(|(_, scale)| units != 0 && units % scale == 0);
        // Below 1024 the API server changes from the binary to the decimal notation; the digits are the same.
        Self(scale.map_or_else(|| units.to_string(), |(suffix, scale)| format!("{}{suffix}", units / scale)))
    }

    /// An amount of mebibytes.
    pub fn mebibytes(count: i128) -> Self {
        Self(format!("{count}Mi")).canonical()
    }

    fn is_binary(&self) -> bool {
        self.0.ends_with('i')
    }

    /// Digits and scale; no scale stands for thousandths.
    fn split(&self) -> Option<(&str, Option<i128>)> {
        if let Some(number) = self.0.strip_suffix('m') {
            return Some((number, None));
        }
        let scaled =
            BINARY.iter().chain(&DECIMAL).find_map(|(suffix, scale)| Some((self.0.strip_suffix(suffix)?, *scale)));
        let (number, scale) = scaled.unwrap_or((&self.0, 1));
        Some((number, Some(scale)))
    }
}

fn digits(text: &str) -> Option<i128> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

impl From<&str> for Amount {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for Amount {
    fn schema_name() -> Cow<'static, str> {
        "Amount".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "maxLength": 20, "pattern": PATTERN })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Amount;

    #[test]
    fn amounts_are_written_as_the_api_server_writes_them() {
        for (written, read) in [
            ("0.5", "500m"),
            ("1000m", "1"),
            ("1024Mi", "1Gi"),
            ("1536Mi", "1536Mi"),
            ("0.5Gi", "512Mi"),
            ("2000M", "2G"),
            ("1.5Gi", "1536Mi"),
            ("8", "8"),
            ("0", "0"),
            ("1000", "1k"),
        ] {
            assert_eq!(Amount::from(written).canonical().to_string(), read, "{written}");
        }
    }

    #[test]
    fn what_is_no_amount_has_no_size() {
        for text in ["", "m", "Gi", "1.2.3", "-1", "1e3", "one", "1 Gi", "1KiB"] {
            assert_eq!(Amount::from(text).millis(), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn writing_it_otherwise_changes_nothing(number in 0..1_000_000_u64, unit in "(m|k|M|G|Ki|Mi|Gi)?") {
            let amount = Amount::from(format!("{number}{unit}").as_str());
            let canonical = amount.canonical();
            prop_assert_eq!(amount.millis(), canonical.millis());
            prop_assert_eq!(canonical.canonical(), canonical);
        }
    }
}
