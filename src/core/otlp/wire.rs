//! Protobuf's wire format: varints, keys, values, groups, and the writing of the few of them that we write.
//!
//! Reads from any bytes without panic. Which bytes are well formed is decided as prost decides it, since a request that
//! we accept must be one that everybody behind us can decode.

/// How deep messages and groups may lie within each other. Prost's limit, and the lowest of the common decoders.
pub(super) const DEPTH_LIMIT: u32 = 100;

/// What is wrong with bytes that should be a protobuf message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The bytes end, or the message they lie in ends, before the value does.
    #[error("it ends too early")]
    Truncated,
    /// More than ten bytes, or more than 64 bits.
    #[error("a number has more than 64 bits")]
    VarintTooLong,
    /// A field key with the tag 0, more than 32 bits, or a wire type that does not exist.
    #[error("a field has no valid key")]
    BadKey,
    /// A known field in an encoding that is not its own.
    #[error("it is not encoded as this field is")]
    WrongWireType,
    /// A group that nobody opened, or another than the one that is open.
    #[error("a group ends that is not open")]
    StrayEndGroup,
    /// More than 100 messages and groups within each other.
    #[error("it is nested more than 100 levels deep")]
    TooDeep,
    /// A string field that holds other bytes.
    #[error("the text is not UTF-8")]
    NotUtf8,
    /// A trace or span id of a length that ids do not have.
    #[error("an id of {actual} bytes, where {expected} are due")]
    IdLength {
        /// Bytes found.
        actual: usize,
        /// Bytes due, if there are any.
        expected: usize,
    },
}

/// How a value is encoded. No OTLP message has groups, but one that we do not know may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WireType {
    Varint = 0,
    Fixed64 = 1,
    Delimited = 2,
    StartGroup = 3,
    EndGroup = 4,
    Fixed32 = 5,
}

/// A place in some bytes, moving forward.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Where it stands.
    pub(super) fn place(self) -> *const u8 {
        self.rest.as_ptr()
    }

    /// Bytes left to read.
    pub(super) fn remaining(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    pub(super) fn varint(&mut self) -> Result<u64, Fault> {
        // Nearly every key and length has one byte.
        match self.rest {
            [byte @ ..0x80, rest @ ..] => {
                self.rest = rest;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Fault> {
        let mut value = 0;
        for (index, &byte) in (0_u32..10).zip(self.rest) {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                // The tenth byte has room for one bit only.
                if index == 9 && byte > 1 {
                    return Err(Fault::VarintTooLong);
                }
                self.take(index as usize + 1)?;
                return Ok(value);
            }
        }
        Err(if self.rest.len() < 10 { Fault::Truncated } else { Fault::VarintTooLong })
    }

    #[inline]
    pub(super) fn key(&mut self) -> Result<(u32, WireType), Fault> {
        let key = u32::try_from(self.varint()?).map_err(|_| Fault::BadKey)?;
        let wire_type = match key & 7 {
            0 => WireType::Varint,
            1 => WireType::Fixed64,
            2 => WireType::Delimited,
            3 => WireType::StartGroup,
            4 => WireType::EndGroup,
            5 => WireType::Fixed32,
            _ => return Err(Fault::BadKey),
        };
        let tag = key >> 3;
        if tag == 0 {
            return Err(Fault::BadKey);
        }
        Ok((tag, wire_type))
    }

    #[inline]
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Fault::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    pub(super) fn delimited(&mut self) -> Result<&'a [u8], Fault> {
        let len = usize::try_from(self.varint()?).map_err(|_| Fault::Truncated)?;
        self.take(len)
    }

    /// Passes over a value; over a whole group, if one starts here. `depth` is how many levels may open yet.
    pub(super) fn skip(&mut self, tag: u32, wire_type: WireType, depth: u32) -> Result<(), Fault> {
        let Some(deeper) = depth.checked_sub(1) else { return Err(Fault::TooDeep) };
        match wire_type {
            WireType::Varint => self.varint().map(drop),
            WireType::Fixed64 => self.take(8).map(drop),
            WireType::Fixed32 => self.take(4).map(drop),
            WireType::Delimited => self.delimited().map(drop),
            WireType::EndGroup => Err(Fault::StrayEndGroup),
            WireType::StartGroup => loop {
                match self.key()? {
                    (inner, WireType::EndGroup) if inner == tag => return Ok(()),
                    (_, WireType::EndGroup) => return Err(Fault::StrayEndGroup),
                    (inner, wire_type) => self.skip(inner, wire_type, deeper)?,
                }
            },
        }
    }
}

/// A field as it lies in its message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    pub(super) tag: u32,
    /// Key and value.
    pub(super) raw: &'a [u8],
    /// What a length-delimited field holds; nothing for the others.
    pub(super) content: &'a [u8],
}

/// The fields of a message in their order. Ends where the bytes are no field: these are to be validated ones.
pub(super) fn fields(message: &[u8]) -> impl Iterator<Item = Field<'_>> {
    let mut reader = Reader::new(message);
    std::iter::from_fn(move || {
        let start = reader;
        let (tag, wire_type) = reader.key().ok()?;
        let content = if wire_type == WireType::Delimited {
            reader.delimited().ok()?
        } else {
            reader.skip(tag, wire_type, DEPTH_LIMIT).ok()?;
            &[]
        };
        let (raw, _) = start.rest.split_at_checked(start.remaining() - reader.remaining())?;
        Some(Field { tag, raw, content })
    })
}

/// The length of a number's encoding.
pub(super) fn varint_len(value: usize) -> usize {
    let bits = (usize::BITS - value.leading_zeros()).max(1);
    bits.div_ceil(7) as usize
}

/// The length of a field's encoding that holds `len` bytes.
pub(crate) fn delimited_len(tag: u32, len: usize) -> usize {
    varint_len((tag << 3) as usize) + varint_len(len) + len
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let [lowest, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            return out.push(lowest);
        }
        out.push(lowest | 0x80);
    }
}

pub(crate) fn put_key(out: &mut Vec<u8>, tag: u32, wire_type: WireType) {
    put_varint(out, u64::from(tag << 3 | wire_type as u32));
}

/// The head of a field that holds `len` bytes, which are to follow.
pub(crate) fn put_delimited_head(out: &mut Vec<u8>, tag: u32, len: usize) {
    put_key(out, tag, WireType::Delimited);
    put_varint(out, len as u64);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value: u64, tag in 1_u32..(1 << 29), content: Vec<u8>) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            put_delimited_head(&mut bytes, tag, content.len());
            bytes.extend(&content);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.varint(), Ok(value));
            prop_assert_eq!(reader.remaining(), delimited_len(tag, content.len()));
            prop_assert_eq!(reader.key(), Ok((tag, WireType::Delimited)));
            prop_assert_eq!(reader.delimited(), Ok(content.as_slice()));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn fields_of_any_bytes_lie_end_to_end(bytes: Vec<u8>) {
            let mut end = 0;
            for field in fields(&bytes) {
                prop_assert_eq!(field.raw, &bytes[end..end + field.raw.len()]);
                end += field.raw.len();
            }
            prop_assert!(end <= bytes.len());
        }
    }

    #[test]
    fn a_number_of_65_bits_is_refused() {
        let mut bytes = [0xff; 10];
        bytes[9] = 0x01;
        assert_eq!(Reader::new(&bytes).varint(), Ok(u64::MAX));
        bytes[9] = 0x02;
        assert_eq!(Reader::new(&bytes).varint(), Err(Fault::VarintTooLong));
        assert_eq!(Reader::new(&bytes[..9]).varint(), Err(Fault::Truncated));
    }
}
