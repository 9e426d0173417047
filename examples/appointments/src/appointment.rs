//! An appointment, and what makes one right.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::problem::FieldError;

/// A booked appointment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Appointment {
    /// UUID.
    pub id: String,
    /// The patient's number in the hospital.
    pub patient: String,
    /// Where.
    pub clinic: String,
    /// When, RFC 3339 in UTC.
    pub at: String,
}

impl Appointment {
    /// Reads a booking. Every field that is wrong is named, not only the first.
    pub fn from_request(body: &[u8]) -> Result<Self, Vec<FieldError>> {
        let whole = |detail: &str| vec![FieldError::new("", detail)];
        let value: Value = serde_json::from_slice(body).map_err(|e| whole(&format!("the body is not JSON: {e}")))?;
        let Value::Object(fields) = value else {
            return Err(whole("the body must be a JSON object"));
        };
        let mut errors = Vec::new();
        for name in fields.keys().filter(|name| !["patient", "clinic", "at"].contains(&name.as_str())) {
            errors.push(FieldError::new(name, "there is no such field; known are patient, clinic and at"));
        }
        let mut text = |name: &str, longest: usize| {
            match fields.get(name) {
                None | Some(Value::Null) => Err("is required".to_owned()),
                Some(Value::String(text)) => words(text, longest),
                Some(_) => Err("must be a string".to_owned()),
            }
            .map_err(|detail| errors.push(FieldError::new(name, detail)))
            .ok()
        };
        let (patient, clinic, at) = (text("patient", 64), text("clinic", 128), text("at", 64));
        let at = at.and_then(|at| moment(&at).map_err(|detail| errors.push(FieldError::new("at", detail))).ok());
        match (patient, clinic, at) {
            (Some(patient), Some(clinic), Some(at)) if errors.is_empty() => {
                Ok(Self { id: new_id(), patient, clinic, at })
            }
            _ => Err(errors),
        }
    }
}

/// Whether a text can be an id of ours.
pub fn is_id(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(i, byte)| match i {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        })
}

/// Text of people: trimmed, not empty, not too long, without control characters.
pub fn words(text: &str, longest: usize) -> Result<String, String> {
    let text = text.trim();
    match text.chars().count() {
        0 => Err("must not be empty".into()),
        n if n > longest => Err(format!("has {n} characters; at most {longest} fit")),
        _ if text.chars().any(char::is_control) => Err("must not hold control characters".into()),
        _ => Ok(text.into()),
    }
}

/// A moment with its offset, brought to UTC.
fn moment(text: &str) -> Result<String, String> {
    let moment: jiff::Timestamp =
        text.parse().map_err(|_| "must be a time with its offset, such as 2027-03-01T09:30:00+01:00".to_owned())?;
    let year = moment.to_zoned(jiff::tz::TimeZone::UTC).year();
    if (2000..2200).contains(&year) {
        Ok(moment.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
    } else {
        Err("must be between the years 2000 and 2199".into())
    }
}

/// A random UUID (version 4). Made here, not by the database, so that writing it twice writes it once.
fn new_id() -> String {
    let bits: u128 = (rand::random::<u128>() & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(body: &str) -> Vec<(String, String)> {
        Appointment::from_request(body.as_bytes()).unwrap_err().into_iter().map(|e| (e.field, e.detail)).collect()
    }

    #[test]
    fn a_booking_comes_out_trimmed_and_in_utc() {
        let body = r#"{"patient": " P-1001 ", "clinic": "Kardiologie", "at": "2027-03-01T09:30:00+01:00"}"#;
        let booked = Appointment::from_request(body.as_bytes()).unwrap();
        assert_eq!((booked.patient.as_str(), booked.at.as_str()), ("P-1001", "2027-03-01T08:30:00Z"));
        assert!(is_id(&booked.id), "{}", booked.id);
        assert_eq!(&booked.id[14..15], "4");
    }

    #[test]
    fn every_wrong_field_is_named() {
        let errors = wrong(r#"{"patient": "", "at": "tomorrow", "room": 7}"#);
        let fields: Vec<_> = errors.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(fields, ["room", "patient", "clinic", "at"]);
        assert_eq!(errors[1].1, "must not be empty");
        assert_eq!(errors[2].1, "is required");
    }

    #[test]
    fn a_time_without_an_offset_is_refused() {
        assert_eq!(wrong(r#"{"patient": "p", "clinic": "c", "at": "2027-03-01T09:30:00"}"#)[0].0, "at");
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert_eq!(wrong("[]")[0].1, "the body must be a JSON object");
        assert!(wrong("{")[0].1.starts_with("the body is not JSON"));
    }

    #[test]
    fn long_and_strange_texts_are_refused() {
        assert!(words(&"x".repeat(65), 64).unwrap_err().contains("65 characters"));
        assert!(words("a\u{7}b", 64).is_err());
        assert!(words("Müller, 李", 64).is_ok());
    }

    #[test]
    fn only_uuids_are_ids() {
        assert!(is_id("0b0c2f5e-9f0e-4c6e-8d0e-2b7e0c6f1a11"));
        assert!(!is_id("0b0c2f5e-9f0e-4c6e-8d0e-2b7e0c6f1a1'"));
        assert!(!is_id("1"));
    }
}
