//! Bytes that wait: a queue whose memory grows with use, up to a limit.

use std::io;

/// Memory to begin with.
const FIRST: usize = 16 << 10;

/// The queue.
#[derive(Debug)]
pub(super) struct Ring {
    bytes: Box<[u8]>,
    start: usize,
    len: usize,
    limit: usize,
}

impl Ring {
    /// At most `limit` bytes, a power of two.
    pub(super) fn new(limit: usize) -> Ring {
        Ring { bytes: Box::default(), start: 0, len: 0, limit: limit.next_power_of_two() }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn free(&self) -> usize {
        self.limit - self.len
    }

    /// Raises the limit.
    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit.next_power_of_two().max(self.limit);
    }

    fn mask(&self) -> usize {
        self.bytes.len().wrapping_sub(1)
    }

    /// Memory for at least `len` bytes, which is at most the limit.
    fn reserve(&mut self, len: usize) {
        if len > self.bytes.len() {
            let mut bytes = vec![0; len.next_power_of_two().max(FIRST).min(self.limit)].into_boxed_slice();
            self.peek(0, &mut bytes);
            (self.bytes, self.start) = (bytes, 0);
        }
    }

    /// The parts that hold bytes.
    pub(super) fn parts(&self) -> (&[u8], &[u8]) {
        let end = self.start + self.len;
        let first = self.bytes.get(self.start..end.min(self.bytes.len())).unwrap_or_default();
        let second = self.bytes.get(..end.saturating_sub(self.bytes.len())).unwrap_or_default();
        (first, second)
    }

    /// Adds as many of `data` as fit.
    pub(super) fn push(&mut self, data: &[u8]) -> usize {
        let mut pushed = 0;
        let data = data.get(..data.len().min(self.free())).unwrap_or_default();
        self.reserve(self.len + data.len());
        while let Some(rest) = data.get(pushed..).filter(|rest| !rest.is_empty()) {
            let room = self.room();
            let count = room.len().min(rest.len());
            if count == 0 {
                break;
            }
            room.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            self.len += count;
            pushed += count;
        }
        pushed
    }

    /// The free memory behind the last byte, as far as it is in one piece.
    fn room(&mut self) -> &mut [u8] {
        let memory = self.bytes.len();
        let at = (self.start + self.len) & self.mask();
        let count = (memory - self.len).min(memory - at);
        self.bytes.get_mut(at..at + count).unwrap_or_default()
    }

    /// Has `read` fill free memory; it says how many bytes it gave. Nothing happens when the queue is full.
    pub(super) fn fill(&mut self, read: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<usize> {
        if self.len == self.bytes.len() {
            self.reserve((self.len * 4).clamp(FIRST, self.limit));
        }
        let room = self.room();
        let most = room.len();
        let count = read(room)?.min(most);
        self.len += count;
        Ok(count)
    }

    /// Copies from `offset` on into `out`; the answer is how many bytes there were.
    pub(super) fn peek(&self, offset: usize, out: &mut [u8]) -> usize {
        let (first, second) = self.parts();
        let head = first.get(offset..).unwrap_or_default();
        let tail = second.get(offset.saturating_sub(first.len())..).unwrap_or_default();
        let count = head.len().min(out.len());
        let (front, back) = out.split_at_mut(count);
        front.copy_from_slice(head.get(..count).unwrap_or_default());
        let more = tail.len().min(back.len());
        if let (Some(to), Some(from)) = (back.get_mut(..more), tail.get(..more)) {
            to.copy_from_slice(from);
        }
        count + more
    }

    /// Takes `count` bytes away at the front.
    pub(super) fn consume(&mut self, count: usize) {
        let count = count.min(self.len);
        self.len -= count;
        self.start = if self.len == 0 { 0 } else { (self.start + count) & self.mask() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #[test]
        fn behaves_as_a_queue(steps in prop::collection::vec((0u8..4, 0usize..40_000), 1..60)) {
            let (mut ring, mut model) = (Ring::new(65536), VecDeque::new());
            let mut next = 0u8;
            for (what, count) in steps {
                match what {
                    0 => {
                        let data: Vec<u8> = (0..count).map(|_| { next = next.wrapping_mul(5).wrapping_add(1); next }).collect();
                        let taken = ring.push(&data);
                        prop_assert_eq!(taken, count.min(65536 - model.len()));
                        model.extend(&data[..taken]);
                    }
                    1 => {
                        let taken = ring.fill(|room| { let n = room.len().min(count); room[..n].fill(7); Ok(n) }).unwrap();
                        model.extend(std::iter::repeat_n(7u8, taken));
                        prop_assert!(taken > 0 || count == 0 || model.len() == 65536);
                    }
                    2 => { ring.consume(count); model.drain(..count.min(model.len())); }
                    _ => {
                        let mut out = vec![0; 1000];
                        let there = ring.peek(count, &mut out);
                        let expected: Vec<u8> = model.iter().skip(count).take(1000).copied().collect();
                        prop_assert_eq!(&out[..there], &expected[..]);
                    }
                }
                prop_assert_eq!(ring.len(), model.len());
                let (first, second) = ring.parts();
                prop_assert!(first.iter().chain(second).eq(model.iter()));
            }
        }
    }
}
