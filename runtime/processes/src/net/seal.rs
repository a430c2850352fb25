//! What becomes of frames on a socket, and of a socket's bytes: TLS, or a MAC on what anybody can read.
//!
//! TLS    Both directions share one state, behind a lock that is held for 64 KiB of sealing or one record of opening, and never over a
//!        socket's call: whoever sends waits for a reader microseconds, and never for the other side.
//! MAC    Keyed BLAKE3, 16 bytes, with a key for each direction: after the header over a counter and the header, so that no length is
//!        believed unchecked, and after a payload over all of the frame.

use std::io::{self, BufRead, IoSlice, Write};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::buf::Chain;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use rustls::Connection;
use subtle::ConstantTimeEq;
use tokio::io::AsyncReadExt;
use tokio::net::tcp::OwnedReadHalf;
use zeroize::Zeroizing;

use super::NetError;
use super::conn::ended;
use super::frame::{HEADER, Header};
use super::pulse::Pulse;
use super::tls::failed;

/// Bytes of a MAC.
const TAG: usize = 16;

/// Bytes of a frame that are sealed at once: four records.
const SEALED: usize = 4 << 14;

/// Bytes that are read from a socket at once, at most.
const READ: usize = 1 << 16;

/// A frame: its header, then its payload.
pub(super) type Plain = Chain<Bytes, Bytes>;

/// The sending direction.
pub(super) struct Seal {
    state: Sealing,
    /// Taken in pieces, and used anew when they were written.
    out: BytesMut,
}

enum Sealing {
    Tls(Arc<Mutex<Connection>>),
    Mac(Mac),
}

impl Seal {
    pub(super) fn tls(conn: Arc<Mutex<Connection>>) -> Seal {
        Seal { state: Sealing::Tls(conn), out: BytesMut::new() }
    }

    pub(super) fn mac(mac: Mac) -> Seal {
        Seal { state: Sealing::Mac(mac), out: BytesMut::new() }
    }

    /// Takes some of a frame, in the order of the socket, and gives what to write for it.
    pub(super) fn seal(&mut self, frame: &mut Plain) -> io::Result<Bytes> {
        match &mut self.state {
            Sealing::Tls(conn) => {
                let mut conn = conn.lock().unwrap_or_else(PoisonError::into_inner);
                let (head, payload) = (frame.first_ref().chunk(), frame.last_ref().chunk());
                let rest = &payload[..payload.len().min(SEALED - head.len())];
                let taken = conn.writer().write_vectored(&[IoSlice::new(head), IoSlice::new(rest)])?;
                frame.advance(taken);
                self.out.reserve(SEALED + 1024);
                while conn.wants_write() {
                    conn.write_tls(&mut (&mut self.out).writer())?;
                }
            }
            Sealing::Mac(mac) => {
                let (head, payload) = (frame.first_ref().chunk(), frame.last_ref().chunk());
                self.out.reserve(head.len() + payload.len() + 2 * TAG);
                self.out.put_slice(head);
                self.out.put_slice(&mac.head(head));
                if !payload.is_empty() {
                    self.out.put_slice(payload);
                    self.out.put_slice(&mac.body(head, payload));
                }
                mac.next();
                let all = frame.remaining();
                frame.advance(all);
            }
        }
        Ok(self.out.split().freeze())
    }
}

/// Kinds of records (RFC 8446, §5.1). All that is encrypted is of the last, whatever it holds; the second is there for the eyes of others.
const HANDSHAKE: u8 = 22;
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const APPLICATION_DATA: u8 = 23;

/// Looks at the heads of records as they arrive, for what TLS is told to ignore: a bit that was changed there should show, too.
pub(super) struct Records {
    /// The kind and version that the next one has, if it is no alert.
    next: [u8; 3],
    head: [u8; 5],
    filled: usize,
    /// Bytes of the record's body that are to come.
    rest: usize,
}

impl Records {
    /// From the first one on, which is of this version (a client's first is of an older one).
    pub(super) fn new(first: [u8; 2]) -> Records {
        let [major, minor] = first;
        Records { next: [HANDSHAKE, major, minor], head: [0; 5], filled: 0, rest: 0 }
    }

    /// Whether the bytes that follow are records as this side writes them.
    pub(super) fn are_plain(&mut self, mut bytes: &[u8]) -> bool {
        while let Some((&byte, rest)) = bytes.split_first() {
            if self.rest > 0 {
                let body = &bytes[..self.rest.min(bytes.len())];
                if self.head[0] == CHANGE_CIPHER_SPEC && body != [1] {
                    return false;
                }
                self.rest -= body.len();
                bytes = &bytes[body.len()..];
                continue;
            }
            self.head[self.filled] = byte;
            (self.filled, bytes) = (self.filled + 1, rest);
            if self.filled == self.head.len() {
                let [kind, major, minor, high, low] = self.head;
                let length = usize::from(u16::from_be_bytes([high, low]));
                let as_expected = match kind {
                    // One in the clear, at the end of a handshake that failed.
                    ALERT => [major, minor] == [3, 3] && length == 2,
                    CHANGE_CIPHER_SPEC => [major, minor] == [3, 3] && length == 1,
                    _ => [kind, major, minor] == self.next,
                };
                if !as_expected {
                    return false;
                }
                self.next = [APPLICATION_DATA, 3, 3];
                (self.filled, self.rest) = (0, length);
            }
        }
        true
    }
}

/// The receiving direction.
pub(super) enum Opener {
    Tls(Arc<Mutex<Connection>>, Records),
    Mac(Mac),
}

/// Keyed hashes of one direction's frames, in their order.
pub(super) struct Mac {
    key: Zeroizing<[u8; 32]>,
    counter: u64,
}

impl Mac {
    pub(super) fn new(key: [u8; 32]) -> Mac {
        Mac { key: Zeroizing::new(key), counter: 0 }
    }

    fn head(&self, head: &[u8]) -> [u8; TAG] {
        self.tag(0, head, &[])
    }

    fn body(&self, head: &[u8], payload: &[u8]) -> [u8; TAG] {
        self.tag(1, head, payload)
    }

    fn tag(&self, part: u8, head: &[u8], payload: &[u8]) -> [u8; TAG] {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&self.counter.to_le_bytes()).update(&[part]).update(head).update(payload);
        *hasher.finalize().as_bytes().first_chunk().expect("a hash is longer")
    }

    /// The frame is done.
    fn next(&mut self) {
        self.counter += 1;
    }
}

/// The receiving half of a socket.
pub(super) struct Inlet {
    half: OwnedReadHalf,
    opener: Opener,
    peer: &'static str,
    pulse: Arc<Pulse>,
    /// Bytes of the socket; those in `left` are not yet opened.
    raw: Vec<u8>,
    left: std::ops::Range<usize>,
}

impl Inlet {
    /// Of a socket of which `rest` was read.
    pub(super) fn new(
        half: OwnedReadHalf,
        opener: Opener,
        rest: &[u8],
        peer: &'static str,
        pulse: Arc<Pulse>,
    ) -> Inlet {
        let mut raw = vec![0; READ.max(rest.len())];
        raw[..rest.len()].copy_from_slice(rest);
        Inlet { half, opener, peer, pulse, raw, left: 0..rest.len() }
    }

    /// The next header and payload. `most` says how long a payload may be.
    pub(super) async fn frame(&mut self, most: impl FnOnce(&Header) -> usize) -> Result<(Header, Bytes), NetError> {
        let peer = self.peer;
        let mut head = BytesMut::with_capacity(HEADER);
        self.read(HEADER, &mut head).await?;
        if let Opener::Mac(mac) = &self.opener {
            let tag = mac.head(&head);
            self.check(tag).await?;
        }
        let bytes = head[..].try_into().expect("as many as were asked for");
        let header =
            Header::decode(bytes).map_err(|got| NetError::BadFrame { peer, expected: "a frame".to_owned(), got })?;
        let (length, most) = (header.length as usize, most(&header));
        if length > most {
            let (expected, got) = (format!("at most {most} bytes"), header.describe());
            return Err(NetError::BadFrame { peer, expected, got });
        }
        let mut payload = BytesMut::with_capacity(length);
        self.read(length, &mut payload).await?;
        if length > 0
            && let Opener::Mac(mac) = &self.opener
        {
            let tag = mac.body(&head, &payload);
            self.check(tag).await?;
        }
        if let Opener::Mac(mac) = &mut self.opener {
            mac.next();
        }
        Ok((header, payload.freeze()))
    }

    /// Compares the next bytes with a tag.
    async fn check(&mut self, tag: [u8; TAG]) -> Result<(), NetError> {
        let mut got = BytesMut::with_capacity(TAG);
        self.read(TAG, &mut got).await?;
        match bool::from(got[..].ct_eq(&tag)) {
            true => Ok(()),
            false => Err(NetError::Changed { peer: self.peer }),
        }
    }

    /// Appends so many bytes.
    async fn read(&mut self, length: usize, out: &mut BytesMut) -> Result<(), NetError> {
        let end = out.len() + length;
        loop {
            self.opened(end - out.len(), out)?;
            if out.len() == end {
                return Ok(());
            }
            // All that was there is opened.
            self.left = match self.half.read(&mut self.raw).await.map_err(|e| ended(self.peer, e))? {
                0 => return Err(NetError::Closed { peer: self.peer }),
                n => 0..n,
            };
            if let Opener::Tls(_, records) = &mut self.opener
                && !records.are_plain(&self.raw[self.left.clone()])
            {
                return Err(NetError::Changed { peer: self.peer });
            }
        }
    }

    /// Opens what is there, for at most so many bytes.
    fn opened(&mut self, most: usize, out: &mut BytesMut) -> Result<(), NetError> {
        let mut most = most;
        let Opener::Tls(conn, _) = &self.opener else {
            let n = most.min(self.left.len());
            out.put_slice(&self.raw[self.left.start..][..n]);
            self.left.start += n;
            if n > 0 {
                self.pulse.beat();
            }
            return Ok(());
        };
        while most > 0 {
            let mut conn = conn.lock().unwrap_or_else(PoisonError::into_inner);
            // Nothing but the end of data is told besides; what TLS says of it does not matter, since frames have lengths.
            if let Ok(plain) = conn.reader().fill_buf()
                && !plain.is_empty()
            {
                let n = plain.len().min(most);
                out.put_slice(&plain[..n]);
                conn.reader().consume(n);
                most -= n;
                // Not when bytes arrive: a record whose length was changed on its way never ends, whatever comes after it.
                self.pulse.beat();
                continue;
            }
            if self.left.is_empty() {
                return Ok(());
            }
            let mut rest = &self.raw[self.left.clone()];
            match conn.read_tls(&mut rest).map_err(|e| ended(self.peer, e))? {
                // It was closed, and takes no more.
                0 => return Err(NetError::Closed { peer: self.peer }),
                _ => self.left.start = self.left.end - rest.len(),
            }
            conn.process_new_packets().map_err(|e| failed(self.peer, e))?;
        }
        Ok(())
    }

    /// Reads until the other side ends.
    pub(super) async fn drain(&mut self) {
        while matches!(self.half.read(&mut self.raw).await, Ok(n) if n > 0) {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_known_by_every_bit_of_their_heads() {
        let good = [
            &[22, 3, 1, 0, 3, 9, 9, 9][..],
            &[20, 3, 3, 0, 1, 1],
            &[23, 3, 3, 0, 4, 1, 2, 3, 4],
            &[23, 3, 3, 0, 1, 7],
            &[21, 3, 3, 0, 2, 2, 40],
        ]
        .concat();
        let plain = |bytes: &[u8], piece| {
            let mut records = Records::new([3, 1]);
            bytes.chunks(piece).all(|bytes| records.are_plain(bytes))
        };
        for piece in [1, 2, 3, good.len()] {
            assert!(plain(&good, piece));
        }
        // Where heads begin. A longer length is the business of TLS, which then lacks bytes or finds another tag.
        for head in [0, 8, 14, 23] {
            for bit in 0..24 {
                let mut bad = good.clone();
                bad[head + bit / 8] ^= 1 << (bit % 8);
                assert!(!plain(&bad, 5), "bit {bit} of the head at {head}");
            }
        }
        let mut bad = good;
        bad[13] = 0;
        assert!(!plain(&bad, 5), "the body of `change_cipher_spec`");
    }

    #[test]
    fn macs_depend_on_all_they_are_of() {
        let mut mac = Mac::new([1; 32]);
        let first = mac.body(&[2; HEADER], &[3]);
        assert_ne!(first, Mac::new([2; 32]).body(&[2; HEADER], &[3]));
        assert_ne!(first, mac.body(&[3; HEADER], &[3]));
        assert_ne!(first, mac.body(&[2; HEADER], &[4]));
        assert_ne!(mac.head(&[2; HEADER]), mac.body(&[2; HEADER], &[]));
        mac.next();
        assert_ne!(first, mac.body(&[2; HEADER], &[3]));
    }
}
