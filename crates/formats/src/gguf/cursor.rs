//! A reader over a byte slice that never goes past its end.

/// A position in a slice. Errors are sentences without the file's name; the caller adds it.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Bytes left.
    pub(super) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// What was read since position `start`.
    pub(super) fn since(&self, start: usize) -> &'a [u8] {
        &self.bytes[start..self.at]
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        if count > self.remaining() {
            return Err(format!(
                "{count} bytes are wanted at byte {}, but the file is cut off after {}",
                self.at,
                self.bytes.len()
            ));
        }
        let bytes = &self.bytes[self.at..self.at + count];
        self.at += count;
        Ok(bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(super) fn u32(&mut self) -> Result<u32, String> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, String> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A string: a 64-bit length and as many bytes.
    pub(super) fn string(&mut self) -> Result<&'a [u8], String> {
        let at = self.at;
        let len = self.u64()?;
        match usize::try_from(len) {
            Ok(count) if count <= self.remaining() => self.take(count),
            _ => Err(format!("a string at byte {at} claims {len} bytes, but only {} follow", self.remaining())),
        }
    }
}
