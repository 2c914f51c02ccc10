//! The colours of pictures, bars and pages: one list, so that a name looks the same wherever it is shown.
//!
//! Any two colours of names differ for readers with protanopia, deuteranopia and tritanopia, too, and each is at least
//! 3.2 : 1 against its ground. No colour stands alone: marks and words say the same.

/// The colours on one ground, as `#RRGGBB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Palette {
    /// What everything is drawn on.
    pub ground: &'static str,
    /// Text.
    pub ink: &'static str,
    /// Text of less weight, and lines.
    pub dim: &'static str,
    /// Names of tasks, by rank.
    pub names: [&'static str; NAMES],
    /// What failed.
    pub error: &'static str,
    /// Names that have no colour of their own.
    pub others: &'static str,
}

/// How many names have a colour of their own.
pub const NAMES: usize = 6;

/// The colours on a light ground.
pub const LIGHT: Palette = Palette {
    ground: "#FFFFFF",
    ink: "#14181D",
    dim: "#5A6370",
    names: ["#0B4F8A", "#C97A00", "#0E9F6E", "#DE42C2", "#5E6BE9", "#2D2100"],
    error: "#C8102E",
    others: "#868E96",
};

/// The colours on a dark ground.
pub const DARK: Palette = Palette {
    ground: "#12161C",
    ink: "#E8ECF1",
    dim: "#9AA5B1",
    names: ["#3F7FE0", "#E69F00", "#2ED9A0", "#FB7ED0", "#9CCBFF", "#8A6D1A"],
    error: "#FF5C4D",
    others: "#7D8590",
};

impl Palette {
    /// The colour of the name of that rank, counted from 0. From the seventh on it is that of `others`.
    ///
    /// ```
    /// use swath_insight::palette::LIGHT;
    /// assert_eq!((LIGHT.name(1), LIGHT.name(6)), ("#C97A00", LIGHT.others));
    /// ```
    #[must_use]
    pub fn name(&self, rank: usize) -> &'static str {
        self.names.get(rank).copied().unwrap_or(self.others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The relative luminance of a colour, as WCAG 2 defines it.
    fn luminance(colour: &str) -> f64 {
        let part = |i: usize| {
            let value = f64::from(u8::from_str_radix(&colour[i..i + 2], 16).expect("two hexadecimal digits")) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
    }

    #[test]
    fn each_colour_stands_out_from_its_ground() {
        for palette in [LIGHT, DARK] {
            let others = [palette.ink, palette.dim, palette.error, palette.others];
            for colour in palette.names.into_iter().chain(others) {
                let (a, b) = (luminance(colour), luminance(palette.ground));
                let contrast = (a.max(b) + 0.05) / (a.min(b) + 0.05);
                assert!(contrast >= 3.2, "{colour} on {}: {contrast:.2}", palette.ground);
            }
        }
    }

    #[test]
    fn the_seventh_name_is_one_of_the_others() {
        assert_eq!(DARK.name(5), "#8A6D1A");
        assert_eq!([6, 7, 1000].map(|rank| DARK.name(rank)), [DARK.others; 3]);
    }
}
