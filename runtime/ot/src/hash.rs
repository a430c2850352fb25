//! The hash that turns correlated blocks into pads.
//!
//! TMMO of Guo, Katz, Wang and Yu, "Efficient and Secure Multiparty Computation from Fixed-Key Block Ciphers" (IEEE S&P
//! 2020, section VII-C): H(x, i) = π(π(x) ⊕ i) ⊕ π(x), with π AES-128 under a key of the session. The paper proves it
//! tweakable circular correlation robust for an ideal π. A tweak is the number of the correlation in its direction of the
//! session, and above it the number of the block of pad that is made from it: no pair comes twice.

use kernels::aes128::Aes128;
use kernels::cpu::Cpu;
use kernels::prg::element_bytes;
use zeroize::Zeroize;

/// Blocks of pad that are made at once.
const BATCH: usize = 256;

/// H under the key of a direction of a session.
pub struct Hash(Aes128);

/// Where in the tweaks some pads lie.
#[derive(Clone, Copy)]
pub struct Place {
    /// Number of the first correlation.
    pub first: u64,
    /// Number of the first block of each.
    pub from: u32,
}

impl Place {
    /// The place of the correlation that comes so many later.
    pub(crate) fn after(self, count: usize) -> Place {
        Place { first: self.first + count as u64, ..self }
    }
}

impl Hash {
    /// Under this key, which is public.
    pub fn new(key: &[u8; 16]) -> Hash {
        Hash(Aes128::new(Cpu::get(), key))
    }

    /// H of x ⊕ `shift` for each x: `each` blocks from its own.
    fn blocks(&self, x: &[u128], shift: u128, place: Place, each: usize, heads: &mut [u128], out: &mut [u128]) {
        heads.iter_mut().zip(x).for_each(|(head, x)| *head = x ^ shift);
        self.0.encrypt(heads);
        let tweak =
            |i: usize, j: usize| (u128::from(place.from) + j as u128) << 64 | u128::from(place.first + i as u64);
        // A loop of its own for one block each, which is most of what there is.
        if each == 1 {
            out.iter_mut().zip(&*heads).enumerate().for_each(|(i, (out, head))| *out = head ^ tweak(i, 0));
            self.0.encrypt(out);
            out.iter_mut().zip(&*heads).for_each(|(out, head)| *out ^= head);
            return;
        }
        for (i, (out, head)) in out.chunks_exact_mut(each).zip(&*heads).enumerate() {
            out.iter_mut().enumerate().for_each(|(j, out)| *out = head ^ tweak(i, j));
        }
        self.0.encrypt(out);
        for (out, head) in out.chunks_exact_mut(each).zip(&*heads) {
            out.iter_mut().for_each(|out| *out ^= head);
        }
    }

    /// Pads of `len` numbers of `width` bits for each block x ⊕ `shift`; bits above the width are not cleared.
    pub fn pads(&self, x: &[u128], shift: u128, place: Place, len: usize, width: u8, out: &mut [u64]) {
        assert_eq!(out.len(), x.len() * len, "a row for each block");
        if out.is_empty() {
            return;
        }
        let each = blocks_each(len, width);
        let rows = (BATCH / each).max(1);
        let (mut heads, mut pads) = (vec![0; rows.min(x.len())], vec![0; (rows * each).min(x.len() * each)]);
        for (number, (x, out)) in x.chunks(rows).zip(out.chunks_mut(rows * len)).enumerate() {
            let place = place.after(number * rows);
            let (heads, pads) = (&mut heads[..x.len()], &mut pads[..x.len() * each]);
            self.blocks(x, shift, place, each, heads, pads);
            match element_bytes(width) {
                1 => cut::<1, 16>(pads, each, len, out),
                2 => cut::<2, 8>(pads, each, len, out),
                4 => cut::<4, 4>(pads, each, len, out),
                _ => cut::<8, 2>(pads, each, len, out),
            }
        }
        heads.zeroize();
        pads.zeroize();
    }
}

/// Blocks of pad that `len` numbers of `width` bits take.
pub fn blocks_each(len: usize, width: u8) -> usize {
    (len * element_bytes(width)).div_ceil(16)
}

/// Rows of `len` numbers of SIZE bytes, IN of them in a block, from rows of `each` blocks.
fn cut<const SIZE: usize, const IN: usize>(pads: &[u128], each: usize, len: usize, out: &mut [u64]) {
    if len == 1 {
        out.iter_mut().zip(pads).for_each(|(out, pad)| *out = *pad as u64);
        return;
    }
    let part = |pad: u128, i: usize| (pad >> (8 * SIZE * i)) as u64;
    for (out, pads) in out.chunks_exact_mut(len).zip(pads.chunks_exact(each)) {
        let (whole, rest) = out.as_chunks_mut::<IN>();
        let (full, last) = pads.split_at(whole.len());
        whole.iter_mut().zip(full).for_each(|(out, pad)| *out = std::array::from_fn(|i| part(*pad, i)));
        for (i, out) in rest.iter_mut().enumerate() {
            *out = part(last[0], i);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aes_reference::reference;
    use kernels::ring::{mask, test_elements};

    /// TMMO block by block, from the counter mode that FIPS 197's vectors test.
    mod aes_reference {
        use super::*;

        fn permute(cipher: &Aes128, x: u128) -> u128 {
            let mut out = [[0; 16]];
            cipher.counter(x, &mut out);
            u128::from_le_bytes(out[0])
        }

        pub fn reference(cipher: &Aes128, x: u128, tweak: u128) -> u128 {
            let head = permute(cipher, x);
            permute(cipher, head ^ tweak) ^ head
        }
    }

    #[test]
    fn pads_are_the_hash_cut_into_numbers() {
        let key = [5; 16];
        let (hash, cipher) = (Hash::new(&key), Aes128::new(Cpu::PORTABLE, &key));
        let place = Place { first: 1 << 40, from: 3 };
        let shift = 0x77 << 100 | 1;
        for (count, len, width) in
            [(0, 1, 64), (1, 1, 1), (300, 1, 64), (3, 5, 33), (7, 1000, 9), (2, 4, 17), (5, 3, 8)]
        {
            let x: Vec<u128> = test_elements(1, count).into_iter().map(|x| u128::from(x) << 60 ^ 9).collect();
            let mut out = vec![0; count * len];
            hash.pads(&x, shift, place, len, width, &mut out);
            for (i, row) in out.chunks(len).enumerate() {
                for (k, got) in row.iter().enumerate() {
                    let at = k * element_bytes(width);
                    let tweak = (3 + at as u128 / 16) << 64 | ((1 << 40) + i as u128);
                    let want = (reference(&cipher, x[i] ^ shift, tweak) >> (8 * (at % 16))) as u64;
                    assert_eq!(got & mask(width), want & mask(width), "{count} rows of {len}, {width} bits");
                }
            }
        }
    }
}
