//! The public numbers of a step of a generation: which slots hold tokens, and where the newest one stands.
//!
//! A session's slots hold the prompt, then padding up to the size of its prefill, then a token each. Programs declare the
//! numbers that they need by name; both parties work them out from the same three.

/// What the slots of a session hold after a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slots {
    /// Tokens of the prompt, at least one, in slots 0, 1, ..
    pub prompt: u32,
    /// Slots of the prefill, padding included.
    pub prefill: u32,
    /// Slots that are filled, at least `prefill`; those from `prefill` on hold a token each.
    pub used: u32,
}

/// Row of the model's positions at which the newest token stands.
pub const POSITION: &str = "position";

/// See [`Slots::prompt`].
pub const PROMPT: &str = "prompt";

/// See [`Slots::prefill`].
pub const PREFILL: &str = "prefill";

/// See [`Slots::used`].
pub const USED: &str = "used";

/// Slot of the newest token.
pub const NEWEST: &str = "newest";

/// Names of the first slot of the prompt and the first behind the prefill that hold one of the last `size` tokens.
pub fn window(size: u32) -> [String; 2] {
    ["prompt", "prefill"].map(|part| format!("window.{size}.{part}"))
}

impl Slots {
    /// The number of that name; `None` if there is none.
    pub fn public(&self, name: &str) -> Option<u32> {
        let position = self.prompt + (self.used - self.prefill) - 1;
        Some(match name {
            POSITION => position,
            PROMPT => self.prompt,
            PREFILL => self.prefill,
            USED => self.used,
            NEWEST => self.used - 1,
            _ => {
                let (size, part) = name.strip_prefix("window.")?.split_once('.')?;
                let size: u32 = size.parse().ok()?;
                match part {
                    "prompt" => (position + 1).saturating_sub(size).min(self.prompt),
                    "prefill" => self.used.saturating_sub(size).max(self.prefill),
                    _ => return None,
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Position of the token in a slot.
    fn position(slots: Slots, slot: u32) -> Option<u32> {
        match slot {
            slot if slot < slots.prompt => Some(slot),
            slot if slot >= slots.prefill && slot < slots.used => Some(slots.prompt + slot - slots.prefill),
            _ => None,
        }
    }

    #[test]
    fn numbers_follow_from_positions() {
        for (prompt, prefill, used) in [(1, 1, 1), (3, 4, 4), (3, 4, 6), (4, 4, 9), (2, 8, 12), (8, 8, 9)] {
            let slots = Slots { prompt, prefill, used };
            let of = |name: &str| slots.public(name).unwrap();
            // Of a prefill it is the last token of the prompt, which stands in front of the padding.
            let newest = position(slots, of(NEWEST)).unwrap_or(prompt - 1);
            assert_eq!(of(POSITION), newest, "{slots:?}");
            for size in 1..=10 {
                let [first, from] = window(size).map(|name| of(&name));
                for slot in 0..used {
                    let near = position(slots, slot).is_some_and(|p| newest - p < size);
                    let kept = first <= slot && slot < prompt || from <= slot && slot < used && slot >= prefill;
                    assert_eq!(kept, near, "{slots:?}, window {size}, slot {slot}");
                }
            }
        }
        assert_eq!(Slots { prompt: 1, prefill: 1, used: 1 }.public("window.x.prompt"), None);
        assert_eq!(Slots { prompt: 1, prefill: 1, used: 1 }.public("other"), None);
    }
}
