//! Detection of text encodings: skips a UTF-8 byte order mark and names UTF-16 and packed files.

/// First bytes of packed files, and the command that unpacks them.
const PACKED: [(&[u8], &str, &str); 5] = [
    (b"\x1f\x8b", "gzip", "gzip -dc"),
    (b"\xfd7zXZ\0", "xz", "xz -dc"),
    (b"\x28\xb5\x2f\xfd", "zstd", "zstd -dc"),
    (b"BZh91AY&SY", "bzip2", "bzip2 -dc"),
    (b"PK\x03\x04", "zip", "unzip -p"),
];
const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";

/// Removes a UTF-8 mark from the start of a text. `start` is its first line, or as much of it as was read.
///
/// # Errors
/// A sentence, if the text is UTF-16, UTF-32 or packed.
pub(crate) fn remove_mark(start: &mut Vec<u8>) -> Result<(), String> {
    if start.starts_with(UTF8_MARK) {
        start.drain(..UTF8_MARK.len());
        return Ok(());
    }
    if let Some(packed) = packed(start) {
        return Err(packed);
    }
    match encoding(start) {
        Some(name) => Err(format!("this text is {name}; save it as UTF-8")),
        None => Ok(()),
    }
}

/// What to do about a packed file; `None` if it is not packed in a known way.
pub(crate) fn packed(start: &[u8]) -> Option<String> {
    let (_, name, command) = PACKED.iter().find(|(magic, _, _)| start.starts_with(magic))?;
    Some(format!("this is packed by {name}; unpack it first, with `{command}`"))
}

/// The encoding of a text with a mark of two or four bytes, or with a zero byte in each of its first two pairs.
fn encoding(start: &[u8]) -> Option<&'static str> {
    match start {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Some("UTF-32"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("UTF-16"),
        [a, b, c, d, ..] => {
            let zeros = [a, b, c, d].map(|byte| *byte == 0);
            matches!(zeros, [false, true, false, true] | [true, false, true, false])
                .then_some("UTF-16")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: one mark is removed, other encodings and packed files are named, and everything else stays as it is.
    #[test]
    fn starts() {
        for (start, rest) in [
            (&b""[..], &b""[..]),
            (b"a\n", b"a\n"),
            (b"\xef\xbb\xbfa\n", b"a\n"),
            (b"\xef\xbb\xbf", b""),
            (b"\xef\xbb\xbf\xef\xbb\xbfa", b"\xef\xbb\xbfa"),
            (b"\xef\xbb", b"\xef\xbb"),
            (b"\xff", b"\xff"),
            (b"a\0bc", b"a\0bc"),
            (b"BZhang 1", b"BZhang 1"),
        ] {
            let mut text = start.to_vec();
            assert_eq!(remove_mark(&mut text), Ok(()), "{start:?}");
            assert_eq!(text, rest, "{start:?}");
        }
        for (start, name) in [
            (&b"\xff\xfea\0"[..], "UTF-16"),
            (b"\xfe\xff\0a", "UTF-16"),
            (b"{\0\"\0", "UTF-16"),
            (b"\0{\0\"", "UTF-16"),
            (b"\xff\xfe\0\0", "UTF-32"),
            (b"\0\0\xfe\xff", "UTF-32"),
            (b"\x1f\x8b\x08", "gzip -dc"),
            (b"\xfd7zXZ\0\0", "xz -dc"),
            (b"\x28\xb5\x2f\xfd\0", "zstd -dc"),
            (b"BZh91AY&SY", "bzip2 -dc"),
            (b"PK\x03\x04", "unzip -p"),
        ] {
            let refused = remove_mark(&mut start.to_vec()).unwrap_err();
            assert!(refused.contains(name), "{start:?}: {refused}");
        }
    }
}
