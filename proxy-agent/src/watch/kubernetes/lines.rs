// SPDX-License-Identifier: Apache-2.0
//! Lines out of the parts that a stream comes in.

use memchr::memchr;

use super::failure::Failure;

/// The longest line: an object may have some 1.5 MB, with all its characters escaped.
const LONGEST: usize = 32 << 20;

/// Puts parts together to lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    buffer: Vec<u8>,
    /// Where the next line begins.
    begin: usize,
    /// Up to where there is no end of a line.
    searched: usize,
}

impl Lines {
    /// Takes a part.
    pub(super) fn push(&mut self, part: &[u8]) -> Result<(), Failure> {
        drop(self.buffer.drain(..self.begin));
        self.searched -= self.begin;
        self.begin = 0;
        if self.buffer.len() + part.len() > LONGEST {
            return Err(Failure::Garbled("a line without an end".to_owned()));
        }
        self.buffer.extend_from_slice(part);
        Ok(())
    }

    /// The next line that is complete and not empty.
    pub(super) fn next(&mut self) -> Option<&[u8]> {
        loop {
            let end = memchr(b'\n', &self.buffer[self.searched..]);
            let Some(end) = end.map(|at| self.searched + at) else {
                self.searched = self.buffer.len();
                return None;
            };
            let begin = self.begin;
            (self.begin, self.searched) = (end + 1, end + 1);
            if !self.buffer[begin..end].trim_ascii().is_empty() {
                return Some(&self.buffer[begin..end]);
            }
        }
    }

    /// Whether a line has begun that is not complete.
    pub(super) fn is_inside(&self) -> bool {
        !self.buffer[self.begin..].trim_ascii().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::Lines;

    #[test]
    fn lines_come_in_any_parts() {
        let text = b"{\"a\":1}\n\n{\"b\":2}\r\n{\"c\"";
        for size in 1..text.len() {
            let (mut lines, mut found) = (Lines::default(), Vec::new());
            for part in text.chunks(size) {
                lines.push(part).unwrap();
                while let Some(line) = lines.next() {
                    found.push(String::from_utf8_lossy(line.trim_ascii()).into_owned());
                }
            }
            assert_eq!(found, [r#"{"a":1}"#, r#"{"b":2}"#], "in parts of {size}");
            assert!(lines.is_inside());
        }
    }

    #[test]
    fn a_line_without_an_end_is_given_up() {
        let mut lines = Lines::default();
        let part = vec![b'x'; 1 << 20];
        assert_eq!((0..40).take_while(|_| lines.push(&part).is_ok()).count(), 32);
    }
}
