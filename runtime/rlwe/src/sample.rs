//! Secrets and noise from uniform words, in constant time.

use kernels::cpu::multiversion;

/// Coin tosses of each sign in a sample of noise: a centred binomial distribution of variance 21 / 2.
pub const TOSSES: u32 = 21;

multiversion! {
    /// Replaces uniform words by -1, 0 or 1 mod 2^64, each with probability 1/3 but for 2^-64.
    pub fn ternary(x: &mut [u64]) {
        for x in x.iter_mut() {
            // The high word of 3·x.
            let carry = ((*x & 0xffff_ffff) * 3) >> 32;
            *x = (((*x >> 32) * 3 + carry) >> 32).wrapping_sub(1);
        }
    }
}

multiversion! {
    /// Replaces uniform words by noise mod 2^64: the number of ones among [`TOSSES`] bits less that among as many others.
    pub fn noise(x: &mut [u64]) {
        const LOW: u64 = (1 << TOSSES) - 1;
        for x in x.iter_mut() {
            // A difference of two counts is a count of ones and zeros.
            let bits = (*x ^ LOW << TOSSES) & (LOW << TOSSES | LOW);
            *x = u64::from(bits.count_ones()).wrapping_sub(u64::from(TOSSES));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernels::cpu::Cpu;
    use kernels::ring::test_elements;

    #[test]
    fn distributions() {
        let count = 3_000_000;
        let mut x = test_elements(1, count);
        ternary(Cpu::get(), &mut x);
        for value in [u64::MAX, 0, 1] {
            let found = x.iter().filter(|x| **x == value).count();
            // A standard deviation is 816.
            assert!(found.abs_diff(count / 3) < 4500, "{found} of {value}");
        }
        let mut x = test_elements(2, count);
        noise(Cpu::get(), &mut x);
        let moment = |power: i32| x.iter().map(|x| (*x as i64 as f64).powi(power)).sum::<f64>() / count as f64;
        // Standard deviations of the means: 0.0019, 0.0085.
        assert!(moment(1).abs() < 0.01 && (moment(2) - 10.5).abs() < 0.05, "{} {}", moment(1), moment(2));
        assert!(x.iter().all(|x| (*x as i64).unsigned_abs() <= TOSSES.into()));
    }

    #[test]
    fn the_ends() {
        let mut x = [0, u64::MAX, u64::MAX / 3, u64::MAX / 3 + 1, u64::MAX / 3 * 2, u64::MAX / 3 * 2 + 1];
        ternary(Cpu::get(), &mut x);
        assert_eq!(x.map(|x| x as i64), [-1, 1, -1, 0, 0, 1]);
        let low = (1 << TOSSES) - 1;
        let mut x = [low, low << TOSSES, low << TOSSES | low, !low & !(low << TOSSES)];
        noise(Cpu::get(), &mut x);
        assert_eq!(x.map(|x| x as i64), [21, -21, 0, 0]);
    }

    #[test]
    fn instruction_sets_agree() {
        let words = test_elements(3, 1001);
        for sample in [ternary as fn(Cpu, &mut [u64]), noise] {
            let run = |cpu: Cpu| {
                let mut x = words.clone();
                sample(cpu, &mut x);
                x
            };
            assert!(Cpu::available().into_iter().all(|cpu| run(cpu) == run(Cpu::PORTABLE)));
        }
    }
}
