//! Protobuf's wire format: reads varints, keys, values and groups, and writes the few of them that we need.
//!
//! Reads any bytes without panic. Well-formed is what prost accepts, because every decoder behind us must be
//! able to read a request that we accept.

/// The maximum nesting of messages and groups: prost's limit, and the lowest of the common decoders.
pub(super) const DEPTH_LIMIT: u32 = 100;

/// The reason that bytes are not a valid protobuf message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes, or the message around a value, end before the value does.
    #[error("message ends too early")]
    Truncated,
    /// More than ten bytes, or more than 64 bits.
    #[error("varint has more than 64 bits")]
    VarintTooLong,
    /// A field key with the tag 0, more than 32 bits, or a wire type that does not exist.
    #[error("invalid field key")]
    BadKey,
    /// A known field whose wire type does not match its type.
    #[error("wrong wire type for this field")]
    WrongWireType,
    /// The end of a group that is not open, or not the innermost one.
    #[error("unmatched end of group")]
    StrayEndGroup,
    /// More than 100 nested messages and groups.
    #[error("nested more than 100 levels deep")]
    TooDeep,
    /// A string field that is not UTF-8.
    #[error("text is not UTF-8")]
    NotUtf8,
    /// A trace or span id of the wrong length.
    #[error("id has {actual} bytes instead of {expected}")]
    IdLength {
        /// Bytes found.
        actual: usize,
        /// Bytes expected, unless the id is empty.
        expected: usize,
    },
}

/// The encoding of a value. No OTLP message has groups, but an unknown field may be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WireType {
    Varint = 0,
    Fixed64 = 1,
    Delimited = 2,
    StartGroup = 3,
    EndGroup = 4,
    Fixed32 = 5,
}

/// A cursor over encoded bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct WireReader<'a> {
    rest: &'a [u8],
}

impl<'a> WireReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The current position.
    pub(super) fn position(self) -> *const u8 {
        self.rest.as_ptr()
    }

    /// The number of bytes left.
    pub(super) fn remaining(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    pub(super) fn varint(&mut self) -> Result<u64, WireError> {
        // Nearly every key and length is one byte.
        match self.rest {
            [byte @ ..0x80, rest @ ..] => {
                self.rest = rest;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0;
        for (index, &byte) in (0_u32..10).zip(self.rest) {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                // The tenth byte holds only one bit.
                if index == 9 && byte > 1 {
                    return Err(WireError::VarintTooLong);
                }
                self.take(index as usize + 1)?;
                return Ok(value);
            }
        }
        Err(if self.rest.len() < 10 { WireError::Truncated } else { WireError::VarintTooLong })
    }

    #[inline]
    pub(super) fn key(&mut self) -> Result<(u32, WireType), WireError> {
        let key = u32::try_from(self.varint()?).map_err(|_| WireError::BadKey)?;
        let wire_type = match key & 7 {
            0 => WireType::Varint,
            1 => WireType::Fixed64,
            2 => WireType::Delimited,
            3 => WireType::StartGroup,
            4 => WireType::EndGroup,
            5 => WireType::Fixed32,
            _ => return Err(WireError::BadKey),
        };
        let tag = key >> 3;
        if tag == 0 {
            return Err(WireError::BadKey);
        }
        Ok((tag, wire_type))
    }

    #[inline]
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    pub(super) fn delimited(&mut self) -> Result<&'a [u8], WireError> {
        let len = usize::try_from(self.varint()?).map_err(|_| WireError::Truncated)?;
        self.take(len)
    }

    /// Skips a value, or a whole group if one starts here. `depth` is the number of levels that may still open.
    pub(super) fn skip(&mut self, tag: u32, wire_type: WireType, depth: u32) -> Result<(), WireError> {
        let Some(deeper) = depth.checked_sub(1) else { return Err(WireError::TooDeep) };
        match wire_type {
            WireType::Varint => self.varint().map(drop),
            WireType::Fixed64 => self.take(8).map(drop),
            WireType::Fixed32 => self.take(4).map(drop),
            WireType::Delimited => self.delimited().map(drop),
            WireType::EndGroup => Err(WireError::StrayEndGroup),
            WireType::StartGroup => loop {
                match self.key()? {
                    (inner, WireType::EndGroup) if inner == tag => return Ok(()),
                    (_, WireType::EndGroup) => return Err(WireError::StrayEndGroup),
                    (inner, wire_type) => self.skip(inner, wire_type, deeper)?,
                }
            },
        }
    }
}

/// An encoded field.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawField<'a> {
    pub(super) tag: u32,
    /// The bytes of key and value.
    pub(super) raw: &'a [u8],
    /// The content of a length-delimited field; empty for others.
    pub(super) content: &'a [u8],
}

/// The fields of a validated message, in order. Stops at bytes that are not a field.
pub(super) fn fields(message: &[u8]) -> impl Iterator<Item = RawField<'_>> {
    let mut reader = WireReader::new(message);
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
        Some(RawField { tag, raw, content })
    })
}

/// The encoded length of a number.
pub(super) fn varint_len(value: usize) -> usize {
    let bits = (usize::BITS - value.leading_zeros()).max(1);
    bits.div_ceil(7) as usize
}

/// The encoded length of a field with `len` bytes of content.
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

/// Writes the key and length of a field whose `len` bytes of content follow.
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
        fn written_values_are_read_back(value: u64, tag in 1_u32..(1 << 29), content: Vec<u8>) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            put_delimited_head(&mut bytes, tag, content.len());
            bytes.extend(&content);
            let mut reader = WireReader::new(&bytes);
            prop_assert_eq!(reader.varint(), Ok(value));
            prop_assert_eq!(reader.remaining(), delimited_len(tag, content.len()));
            prop_assert_eq!(reader.key(), Ok((tag, WireType::Delimited)));
            prop_assert_eq!(reader.delimited(), Ok(content.as_slice()));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn fields_of_any_bytes_are_contiguous(bytes: Vec<u8>) {
            let mut end = 0;
            for field in fields(&bytes) {
                prop_assert_eq!(field.raw, &bytes[end..end + field.raw.len()]);
                end += field.raw.len();
            }
            prop_assert!(end <= bytes.len());
        }
    }

    #[test]
    fn varint_of_65_bits_is_refused() {
        let mut bytes = [0xff; 10];
        bytes[9] = 0x01;
        assert_eq!(WireReader::new(&bytes).varint(), Ok(u64::MAX));
        bytes[9] = 0x02;
        assert_eq!(WireReader::new(&bytes).varint(), Err(WireError::VarintTooLong));
        assert_eq!(WireReader::new(&bytes[..9]).varint(), Err(WireError::Truncated));
    }
}
