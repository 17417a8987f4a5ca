//! Where a gRPC message ends: each is five bytes of head (a flag and its length) and as many bytes as that says. Pure. It does
//! not look into messages.

/// Bytes before a message.
const HEAD: usize = 5;

/// Follows one body.
#[derive(Debug, Default)]
pub(super) struct Framing {
    head: [u8; HEAD],
    /// Bytes of the present message that have come, its head included. 0: none has begun.
    come: usize,
    /// Bytes of it that are to come; meaningful once its head is whole.
    left: usize,
}

impl Framing {
    /// Takes the next bytes of the body, and says how many bytes of a message that is not whole have come.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> usize {
        while let Some(first) = bytes.first() {
            if self.come < HEAD {
                self.head[self.come] = *first;
                self.come += 1;
                bytes = &bytes[1..];
                if self.come == HEAD {
                    let [_, a, b, c, d] = self.head;
                    self.left = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
                }
            } else {
                let taken = self.left.min(bytes.len());
                (self.come, self.left) = (self.come + taken, self.left - taken);
                bytes = &bytes[taken..];
            }
            if self.come >= HEAD && self.left == 0 {
                self.come = 0;
            }
        }
        self.come
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(len: u8) -> Vec<u8> {
        let mut bytes = vec![0, 0, 0, 0, len];
        bytes.extend(std::iter::repeat_n(7, len.into()));
        bytes
    }

    #[test]
    fn however_a_body_is_cut_its_messages_end_where_they_end() {
        let body: Vec<u8> = [message(3), message(0), message(200)].concat();
        for size in 1..body.len() {
            let mut framing = Framing::default();
            let mut fed = 0;
            for part in body.chunks(size) {
                fed += part.len();
                let expected = match fed {
                    fed if fed < 8 => fed,
                    8..13 => fed - 8,
                    fed if fed < body.len() => fed - 13,
                    _ => 0,
                };
                assert_eq!(framing.feed(part), expected, "{fed} bytes in parts of {size}");
            }
        }
    }

    #[test]
    fn a_head_that_promises_much_holds_only_what_has_come() {
        let mut framing = Framing::default();
        assert_eq!(framing.feed(&[0, 0xff, 0xff, 0xff, 0xff, 1, 2]), 7);
    }
}
