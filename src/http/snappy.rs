//! Bodies packed as one snappy block, as Prometheus sends them. What a block says of its length is not believed
//! before memory is taken: 47 bytes may claim gigabytes (CVE-2026-42154).
//!
//! Source: snappy's `format_description.txt`.

use bytes::Bytes;
use parking_lot::Mutex;

use super::error::ApiError;

/// No block grows more than that: three bytes copy at most 64.
const GROWTH_MAX: usize = 22;
/// Rooms that are kept, and the greatest that is.
const ROOMS_MAX: usize = 16;
const ROOM_BYTES_MAX: usize = 1 << 20;

/// Rooms of blocks that were unpacked and are needed no more. A new one would have to be zeroed first, and come from memory
/// that is in no cache.
static ROOMS: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// An unpacked block; its room is kept for another.
struct Unpacked {
    room: Vec<u8>,
    len: usize,
}

impl AsRef<[u8]> for Unpacked {
    fn as_ref(&self) -> &[u8] {
        &self.room[..self.len]
    }
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        let mut rooms = ROOMS.lock();
        if self.room.len() <= ROOM_BYTES_MAX && rooms.len() < ROOMS_MAX {
            rooms.push(std::mem::take(&mut self.room));
        }
    }
}

/// A block unpacked.
///
/// # Errors
/// If it is no block (400), or longer than `max` bytes when it is unpacked (413).
pub fn unpack(block: &[u8], max: usize) -> Result<Bytes, ApiError> {
    let no_block = |why: String| ApiError::bad_request(format!("body is no snappy block: {why}"));
    let len = snap::raw::decompress_len(block).map_err(|error| no_block(error.to_string()))?;
    if len > max {
        return Err(ApiError::too_large(format!("expected a body of at most {max} bytes, found {len}")));
    }
    if len > block.len().saturating_mul(GROWTH_MAX) {
        return Err(no_block(format!(
            "expected what {} bytes can hold, found a length of {len}",
            block.len()
        )));
    }
    let room = ROOMS.lock().pop().unwrap_or_default();
    let mut unpacked = Unpacked { room, len };
    if unpacked.room.len() < len {
        unpacked.room.resize(len, 0);
    }
    let decompressed = snap::raw::Decoder::new().decompress(block, &mut unpacked.room[..len]);
    unpacked.len = decompressed.map_err(|error| no_block(error.to_string()))?;
    Ok(Bytes::from_owner(unpacked))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::StatusCode;
    use proptest::prelude::*;

    fn pack(body: &[u8]) -> Vec<u8> {
        snap::raw::Encoder::new().compress_vec(body).expect("a body of few bytes")
    }

    #[test]
    fn the_claimed_length_is_checked_first() {
        let best = pack(&vec![b'x'; 1 << 20]);
        assert_eq!(unpack(&best, 1 << 20).expect("it fits").len(), 1 << 20);
        let mut bomb = vec![0xff, 0xff, 0xff, 0xff, 0x09];
        bomb.resize(47, 0);
        let mut small_bomb = vec![0x80, 0x80, 0x40];
        small_bomb.resize(47, 0);
        for (block, status, why) in [
            (
                &best[..],
                StatusCode::PAYLOAD_TOO_LARGE,
                "expected a body of at most 1048575 bytes, found 1048576",
            ),
            (
                &bomb[..],
                StatusCode::PAYLOAD_TOO_LARGE,
                "expected a body of at most 1048575 bytes, found 2684354559",
            ),
            (
                &small_bomb[..],
                StatusCode::BAD_REQUEST,
                "body is no snappy block: expected what 47 bytes can hold, found a length of 1048576",
            ),
        ] {
            // The small one is within the limit.
            let max = if block.len() == 47 && block[2] == 0x40 { 1 << 20 } else { (1 << 20) - 1 };
            let error = unpack(block, max).expect_err("too much");
            assert_eq!((error.status, error.detail.as_str()), (status, why));
        }
        for block in [&b""[..], b"\xff\xff\xff\xff\xff\xff", b"\x05\x00", &best[..best.len() - 1]] {
            assert_eq!(unpack(block, 1 << 20).expect_err("no block").status, StatusCode::BAD_REQUEST);
        }
    }

    proptest! {
        #[test]
        fn what_was_packed_comes_back(body in prop::collection::vec(0u8..4, 0..2000)) {
            prop_assert_eq!(&unpack(&pack(&body), 2000).unwrap()[..], &body[..]);
        }

        #[test]
        fn no_bytes_panic(block in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = unpack(&block, 1000);
        }
    }
}
