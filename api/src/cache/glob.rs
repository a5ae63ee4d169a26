//! Glob patterns over text: `*` matches any text, `?` one character, and a backslash escapes the next character.

/// A pattern, taken apart.
#[derive(Debug)]
pub(super) struct Glob(Vec<Part>);

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Is(char),
    One,
    Any,
}

impl Glob {
    /// Every text is a pattern: a backslash at its end is one.
    pub(super) fn new(pattern: &str) -> Self {
        let (mut parts, mut rest) = (Vec::new(), pattern.chars());
        while let Some(next) = rest.next() {
            let part = match next {
                '*' => Part::Any,
                '?' => Part::One,
                '\\' => Part::Is(rest.next().unwrap_or('\\')),
                other => Part::Is(other),
            };
            // Two in a row mean no more than one, and would be tried in vain.
            if !(part == Part::Any && parts.last() == Some(&Part::Any)) {
                parts.push(part);
            }
        }
        Self(parts)
    }

    /// Whether all of `text` matches. Takes at most as many steps as text and pattern have characters, multiplied.
    pub(super) fn matches(&self, text: &str) -> bool {
        let (mut text, mut part) = (text.chars(), 0);
        // Where to go on if this fails: behind the last `*`, with one character more given to it.
        let mut retry = None;
        loop {
            let mut after = text.clone();
            let takes = match (self.0.get(part), after.next()) {
                (Some(Part::Any), _) => {
                    part += 1;
                    retry = Some((part, text.clone()));
                    continue;
                }
                (None, None) => return true,
                (Some(Part::One), Some(_)) => true,
                (Some(Part::Is(wanted)), Some(found)) => *wanted == found,
                _ => false,
            };
            if takes {
                (text, part) = (after, part + 1);
                continue;
            }
            let Some((behind, mut from)) = retry.take() else { return false };
            if from.next().is_none() {
                return false;
            }
            (text, part) = (from.clone(), behind);
            retry = Some((behind, from));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what a pattern means, and that a star can be one.
    #[test]
    fn patterns() {
        let matches = |pattern: &str, text: &str| Glob::new(pattern).matches(text);
        for (pattern, yes, no) in [
            ("a*b", &["ab", "aXXb", "abb"][..], &["a", "abc", ""][..]),
            ("?", &["a", "ü"], &["", "ab"]),
            ("*", &["", "a", "*"], &[]),
            ("**a**?", &["ab", "xaxb"], &["a", "xa"]),
            (r"a\*", &["a*"], &["ab", "a", r"a\*"]),
            (r"\?\\", &[r"?\"], &[r"a\"]),
            (r"a\", &[r"a\"], &["a"]),
            ("", &[""], &["a"]),
            ("*ab*ab", &["abab", "xabxababab"], &["ab", "xabx"]),
        ] {
            assert!(yes.iter().all(|text| matches(pattern, text)), "{pattern}");
            assert!(!no.iter().any(|text| matches(pattern, text)), "{pattern}");
        }
        assert!(!matches(&"*a".repeat(60), &"a".repeat(59)), "and soon");
    }
}
