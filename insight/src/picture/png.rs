//! Pictures as PNG: the SVG is drawn by `resvg`, with a font of this crate's, as a machine may have none.

use super::sketch::Picture;
use super::svg::{CSS, svg};
use super::{PictureError, svg};
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree};

const FONT: &[u8] = include_bytes!("font/mono.ttf");
const FAMILY: &str = "DejaVu Sans Mono";

/// Pixels of the image for each of the picture, so that text is sharp where it is enlarged.
const SCALE: f64 = 2.0;
/// The most pixels of an image: each takes four bytes until it is compressed.
const MOST_PIXELS: f64 = 48e6;
/// The longest side of an image that other programs open.
const LONGEST_SIDE: f64 = 65_000.0;

pub(super) fn png(picture: &Picture<'_>) -> Result<Vec<u8>, PictureError> {
    let wrong = |reason: String| PictureError::Png { reason };
    let (width, height) = svg::size(picture);
    let fits = (MOST_PIXELS / (width * height)).sqrt().min(LONGEST_SIDE / width.max(height));
    let scale = SCALE.min(fits);
    if scale < 1.0 {
        let reason = format!("it would have {width:.0} x {height:.0} pixels; .svg and .html have no such limit");
        return Err(wrong(reason));
    }
    // There is one ground in an image, and its colours come first.
    let light = CSS.split("@media").next().unwrap_or_default();
    let svg = svg(picture).replace(CSS, light);
    let svg: String = svg.chars().map(|c| if has_glyph(c) { c } else { '\u{fffd}' }).collect();
    let mut options = Options::default();
    let fonts = options.fontdb_mut();
    fonts.load_font_data(FONT.to_vec());
    fonts.set_monospace_family(FAMILY);
    options.font_family = FAMILY.to_string();
    let tree = Tree::from_str(&svg, &options).map_err(|e| wrong(e.to_string()))?;

    let pixels = |side: f64| (side * scale).ceil() as u32;
    let mut image =
        Pixmap::new(pixels(width), pixels(height)).ok_or_else(|| wrong("there is no memory for it".to_string()))?;
    resvg::render(&tree, Transform::from_scale(scale as f32, scale as f32), &mut image.as_mut());
    image.encode_png().map_err(|e| wrong(e.to_string()))
}

/// Whether the font has a sign for it. What it lacks would leave a gap in a name.
fn has_glyph(c: char) -> bool {
    matches!(c, '\n' | '\u{20}'..='\u{7e}' | '\u{a0}'..='\u{17f}' | '\u{374}'..='\u{377}' | '\u{37a}'..='\u{37f}'
        | '\u{384}'..='\u{38a}' | '\u{38c}' | '\u{38e}'..='\u{3a1}' | '\u{3a3}'..='\u{3ce}' | '\u{3d0}'..='\u{3e1}'
        | '\u{3f0}'..='\u{45f}' | '\u{2010}'..='\u{2023}' | '\u{2026}' | '\u{2030}'..='\u{2037}'
        | '\u{2039}'..='\u{203a}' | '\u{20ac}' | '\u{2190}'..='\u{21bb}' | '\u{2200}'..='\u{2213}' | '\u{2215}'
        | '\u{2217}'..='\u{2220}' | '\u{2223}' | '\u{2227}'..='\u{222d}' | '\u{2234}'..='\u{223d}'
        | '\u{2241}'..='\u{2265}' | '\u{22cd}' | '\u{2423}' | '\u{25a0}'..='\u{25ff}' | '\u{2713}' | '\u{2717}')
}

#[cfg(test)]
mod tests {
    use super::super::{Sketch, Style, Task, TaskGraph};
    use super::*;

    fn picture_of(graph: &TaskGraph) -> Result<Vec<u8>, PictureError> {
        Sketch::of(graph, Style::default()).expect("small").lay_out().to_png()
    }

    #[test]
    fn an_image_shows_shapes_and_letters() {
        let mut graph = TaskGraph::new();
        let name = graph.name("increment");
        graph.push(Task::new(name, 1), []);
        let image = Pixmap::decode_png(&picture_of(&graph).expect("an image")).expect("a PNG");
        let picture = Sketch::of(&graph, Style::default()).expect("small").lay_out();
        let (width, height) = picture.size();
        assert_eq!(
            (f64::from(image.width()), f64::from(image.height())),
            ((2.0 * width).ceil(), (2.0 * height).ceil())
        );
        assert_eq!(image.pixel(0, 0).map(|p| (p.red(), p.alpha())), Some((255, 255)), "a light ground");
        // The middle line of the task has its outline, and dark letters between.
        let dark = |x: &u32| image.pixel(*x, image.height() / 2).is_some_and(|p| p.red() < 60 && p.blue() < 80);
        let letters = (image.width() / 4..3 * image.width() / 4).filter(dark).count();
        assert!(letters > 10, "{letters} dark pixels");
    }

    /// How many pixels of the only task of a picture are as dark as letters.
    fn letters(name: &str) -> usize {
        let mut graph = TaskGraph::new();
        let name = graph.name(name);
        graph.push(Task::new(name, 1), []);
        let image = Pixmap::decode_png(&picture_of(&graph).expect("an image")).expect("a PNG");
        image.pixels().iter().filter(|p| p.red() < 60 && p.blue() < 80).count()
    }

    #[test]
    fn each_character_is_seen() {
        for name in ["\u{e9}", "\u{3b1}", "\u{436}", "\u{2192}", "\u{2026}", "\u{6f22}", "\u{1f980}", "\u{5d0}", "\n"] {
            assert!(letters(name) > 10, "{name:?}: {} dark pixels", letters(name));
        }
    }

    #[test]
    fn hostile_names_and_none_are_drawn() {
        let mut graph = TaskGraph::new();
        picture_of(&graph).expect("an empty image");
        for name in ["<script>", "\u{202e}\0\n", "\u{6f22}\u{1f980}", "&amp;\"'"] {
            let name = graph.name(name);
            graph.push(Task::new(name, 1), []);
        }
        picture_of(&graph).expect("an image");
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let mut graph = TaskGraph::new();
        let name = graph.name("a_name_of_some_length");
        graph.push(Task::new(name, 1), []);
        let style = Style { overview: super::super::Overview::Never, ..Style::default() };
        (0..900).for_each(|i| _ = graph.push(Task::new(name, 5000 + i), [super::super::TaskId(0)]));
        let error = Sketch::of(&graph, style).expect("small enough").lay_out().to_png().expect_err("wide");
        assert!(matches!(error, PictureError::Png { .. }), "{error}");
        assert!(error.to_string().contains("pixels"));
    }
}
