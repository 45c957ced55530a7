//! Debian's text format (deb822(5)): paragraphs of `Field: value` lines, continued on indented lines.

/// One paragraph: fields in order, names as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Paragraph<'a> {
    fields: Vec<(&'a str, &'a str)>,
}

impl<'a> Paragraph<'a> {
    /// The value of a field, continuation lines and their line breaks included; names ignore case.
    pub(crate) fn get(&self, name: &str) -> Option<&'a str> {
        self.fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }

    /// All fields, in order.
    pub(crate) fn fields(&self) -> &[(&'a str, &'a str)] {
        &self.fields
    }
}

/// As [`paragraphs`], each with its text.
pub(crate) fn paragraphs_with_text(text: &str) -> impl Iterator<Item = (Paragraph<'_>, &str)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let (paragraph, after) = paragraph(rest);
            let read = rest.get(..rest.len() - after.len())?;
            if read.is_empty() {
                return None;
            }
            rest = after;
            if !paragraph.fields.is_empty() {
                return Some((paragraph, read));
            }
        }
    })
}

/// The paragraphs of `text`. Lines that are neither fields nor continuations are left out, as are comments between fields.
pub(crate) fn paragraphs(text: &str) -> impl Iterator<Item = Paragraph<'_>> {
    paragraphs_with_text(text).map(|(paragraph, _)| paragraph)
}

/// The paragraph at the start of `text`, and what is behind the empty line that ends it.
fn paragraph(text: &str) -> (Paragraph<'_>, &str) {
    let mut paragraph = Paragraph::default();
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let line_end = rest.find('\n').map_or(rest.len(), |end| end + 1);
        let line = rest.get(..line_end).unwrap_or_default();
        if line.trim().is_empty() {
            return (paragraph, text.get(at + line_end..).unwrap_or_default());
        }
        // The value goes on over the indented lines that follow.
        let mut end = line_end;
        while let Some(more) = rest.get(end..).filter(|more| more.starts_with([' ', '\t'])) {
            let length = more.find('\n').map_or(more.len(), |end| end + 1);
            if more.get(..length).unwrap_or_default().trim().is_empty() {
                break;
            }
            end += length;
        }
        if let Some((name, value)) = rest.get(..end).and_then(|field| field.split_once(':'))
            && !line.starts_with(['#', ' ', '\t'])
        {
            paragraph.fields.push((name.trim(), value.trim()));
        }
        at += end;
    }
    (paragraph, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_continue_and_paragraphs_end() {
        let text =
            "\n\nPackage: a\nDescription: one\n two\n .\n three\n# a comment\nSize: 5\n\n \nPackage: b\nOdd line\nX:";
        let found: Vec<_> = paragraphs(text).collect();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].get("package"), Some("a"));
        assert_eq!(found[0].get("Description"), Some("one\n two\n .\n three"));
        assert_eq!(found[0].get("Size"), Some("5"));
        assert_eq!(found[0].get("Version"), None);
        assert_eq!((found[1].get("Package"), found[1].get("X")), (Some("b"), Some("")));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read(text in "[ \\n:#a-cé\\t]{0,80}") {
            proptest::prop_assert!(paragraphs(&text).count() <= text.len());
        }
    }
}
