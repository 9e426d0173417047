//! As much of DICOM and DICOMweb as the imaging journey needs: reading three identifiers from a file, and multipart
//! bodies. Pure.

use anyhow::{Context, Result, bail, ensure};

/// What names a DICOM instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ids {
    /// Study, (0020,000D).
    pub study: String,
    /// Series, (0020,000E).
    pub series: String,
    /// Instance, (0008,0018).
    pub instance: String,
}

const STUDY: (u16, u16) = (0x0020, 0x000d);
const SERIES: (u16, u16) = (0x0020, 0x000e);
const INSTANCE: (u16, u16) = (0x0008, 0x0018);
const PIXELS: (u16, u16) = (0x7fe0, 0x0010);
const ITEM: (u16, u16) = (0xfffe, 0xe000);
const ITEM_END: (u16, u16) = (0xfffe, 0xe00d);
const SEQUENCE_END: (u16, u16) = (0xfffe, 0xe0dd);
const CUT: &str = "a DICOM element is cut off";
const UNDEFINED: u32 = 0xffff_ffff;

/// Read the identifiers of a file with explicit little-endian headers, which all compressed transfer syntaxes have too.
pub fn ids(file: &[u8]) -> Result<Ids> {
    ensure!(file.get(128..132) == Some(b"DICM"), "this is no DICOM file: bytes 128 to 131 are not `DICM`");
    let mut rest = &file[132..];
    let mut found = (None, None, None);
    while rest.len() >= 8 {
        let (tag, value, after) = element(rest)?;
        let text = || String::from_utf8_lossy(value).trim_end_matches(['\0', ' ']).to_owned();
        match tag {
            STUDY => found.0 = Some(text()),
            SERIES => found.1 = Some(text()),
            INSTANCE => found.2 = Some(text()),
            PIXELS => break,
            _ => {}
        }
        rest = after;
    }
    Ok(Ids {
        study: found.0.context("the file has no StudyInstanceUID")?,
        series: found.1.context("the file has no SeriesInstanceUID")?,
        instance: found.2.context("the file has no SOPInstanceUID")?,
    })
}

type Element<'a> = ((u16, u16), &'a [u8], &'a [u8]);

fn short(bytes: &[u8], at: usize) -> Result<u16> {
    let two = bytes.get(at..at + 2).context(CUT)?;
    Ok(u16::from_le_bytes([two[0], two[1]]))
}

fn long(bytes: &[u8], at: usize) -> Result<u32> {
    Ok(u32::from(short(bytes, at)?) | u32::from(short(bytes, at + 2)?) << 16)
}

/// First element: its tag, its value, and what follows.
fn element(bytes: &[u8]) -> Result<Element<'_>> {
    let tag = (short(bytes, 0)?, short(bytes, 2)?);
    let vr = bytes.get(4..6).context(CUT)?;
    ensure!(vr.iter().all(u8::is_ascii_uppercase), "element {tag:04x?} has no explicit value representation");
    let wide = matches!(vr, b"OB" | b"OD" | b"OF" | b"OL" | b"OV" | b"OW" | b"SQ" | b"UC" | b"UN" | b"UR" | b"UT");
    let (start, length) = if wide { (12, long(bytes, 8)?) } else { (8, u32::from(short(bytes, 6)?)) };
    if length == UNDEFINED {
        return Ok((tag, &[], after_sequence(bytes.get(start..).context(CUT)?)?));
    }
    let end = start + length as usize;
    Ok((tag, bytes.get(start..end).context(CUT)?, &bytes[end..]))
}

/// What follows a sequence that tells its end by a delimiter. Its items may do the same, and hold such sequences.
fn after_sequence(mut rest: &[u8]) -> Result<&[u8]> {
    loop {
        let (tag, length) = ((short(rest, 0)?, short(rest, 2)?), long(rest, 4)?);
        rest = &rest[8..];
        match tag {
            SEQUENCE_END => return Ok(rest),
            ITEM if length != UNDEFINED => rest = rest.get(length as usize..).context(CUT)?,
            ITEM => {
                while (short(rest, 0)?, short(rest, 2)?) != ITEM_END {
                    rest = element(rest)?.2;
                }
                rest = rest.get(8..).context(CUT)?;
            }
            other => bail!("{other:04x?} stands where a sequence has its items"),
        }
    }
}

/// A `multipart/related` body with one DICOM file, as STOW-RS takes it.
pub fn multipart(boundary: &str, file: &[u8]) -> Vec<u8> {
    let mut body = format!("--{boundary}\r\nContent-Type: application/dicom\r\n\r\n").into_bytes();
    body.extend_from_slice(file);
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    body
}

/// The body of the first part of a multipart answer.
pub fn first_part<'a>(content_type: &str, body: &'a [u8]) -> Result<&'a [u8]> {
    let boundary = content_type
        .split(';')
        .find_map(|p| p.trim().strip_prefix("boundary="))
        .with_context(|| format!("the answer is no multipart, but `{content_type}`"))?;
    let delimiter = format!("--{}", boundary.trim_matches('"'));
    let find = |hay: &[u8], needle: &[u8]| hay.windows(needle.len()).position(|w| w == needle);
    let Some(first) = find(body, delimiter.as_bytes()) else { bail!("the answer lacks its boundary") };
    let part = &body[first + delimiter.len()..];
    let head = find(part, b"\r\n\r\n").context("the part has no header")?;
    let content = &part[head + 4..];
    let end = find(content, format!("\r\n{delimiter}").as_bytes()).context("the part has no end")?;
    Ok(&content[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(file: &mut Vec<u8>, tag: (u16, u16), vr: &str, value: &[u8]) {
        file.extend(tag.0.to_le_bytes());
        file.extend(tag.1.to_le_bytes());
        file.extend(vr.bytes());
        if vr == "SQ" {
            file.extend([0, 0]);
            file.extend(UNDEFINED.to_le_bytes());
            file.extend(value);
            file.extend([0xfe, 0xff, 0xdd, 0xe0, 0, 0, 0, 0]);
        } else {
            file.extend((value.len() as u16).to_le_bytes());
            file.extend(value);
        }
    }

    fn file() -> Vec<u8> {
        let mut file = vec![0; 128];
        file.extend(b"DICM");
        put(&mut file, INSTANCE, "UI", b"1.2.3\0");
        // An item without a length, in it a sequence without a length, in it one with another study's identifier.
        let mut inner = Vec::from([0xfe, 0xff, 0x00, 0xe0, 0xff, 0xff, 0xff, 0xff]);
        put(&mut inner, (0x0040, 0xa170), "SQ", &[]);
        put(&mut inner, STUDY, "UI", b"9.9\0");
        inner.extend([0xfe, 0xff, 0x0d, 0xe0, 0, 0, 0, 0]);
        put(&mut file, (0x0008, 0x2112), "SQ", &inner);
        put(&mut file, STUDY, "UI", b"1.2");
        put(&mut file, SERIES, "UI", b"1.2.4 ");
        file
    }

    #[test]
    fn identifiers_are_read_past_a_sequence_and_without_padding() {
        let ids = ids(&file()).unwrap();
        assert_eq!((&*ids.study, &*ids.series, &*ids.instance), ("1.2", "1.2.4", "1.2.3"));
    }

    #[test]
    fn a_file_that_is_no_dicom_is_refused() {
        assert!(ids(&[0; 200]).unwrap_err().to_string().contains("no DICOM file"));
    }

    #[test]
    fn a_part_comes_back_as_it_was_sent_even_with_line_ends_inside() {
        let sent = b"\r\n--almost\r\nbytes\0\xff\r\n";
        let body = multipart("b0undary", sent);
        assert_eq!(first_part("multipart/related; boundary=\"b0undary\"; type=x", &body).unwrap(), sent);
    }
}
