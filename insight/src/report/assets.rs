//! The head of a report: policy, style sheets and modules.

use crate::picture::text::push_escaped;
use crate::source::{RunState, Status};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The modules by the names under which they import each other: libraries as their makers ship them, and the pages.
pub(super) const MODULES: [(&str, &str); 21] = [
    ("preact", include_str!("../../web/vendor/preact.mjs")),
    ("preact/hooks", include_str!("../../web/vendor/hooks.mjs")),
    ("htm", include_str!("../../web/vendor/htm.mjs")),
    ("uplot", include_str!("../../web/vendor/uPlot.esm.js")),
    ("swath/app", include_str!("../../web/app.js")),
    ("swath/html", include_str!("../../web/html.js")),
    ("swath/source", include_str!("../../web/source.js")),
    ("swath/format", include_str!("../../web/format.js")),
    ("swath/parts", include_str!("../../web/parts.js")),
    ("swath/colours", include_str!("../../web/colours.js")),
    ("swath/stream", include_str!("../../web/stream.js")),
    ("swath/flame", include_str!("../../web/flame.js")),
    ("swath/pages/status", include_str!("../../web/pages/status.js")),
    ("swath/pages/diagnosis", include_str!("../../web/pages/diagnosis.js")),
    ("swath/pages/tasks", include_str!("../../web/pages/tasks.js")),
    ("swath/pages/workers", include_str!("../../web/pages/workers.js")),
    ("swath/pages/memory", include_str!("../../web/pages/memory.js")),
    ("swath/pages/profile", include_str!("../../web/pages/profile.js")),
    ("swath/pages/logs", include_str!("../../web/pages/logs.js")),
    ("swath/pages/deaths", include_str!("../../web/pages/deaths.js")),
    ("swath/pages/system", include_str!("../../web/pages/system.js")),
];
pub(super) const CSS: &str = include_str!("../../web/style.css");
pub(super) const PLOT_CSS: &str = include_str!("../../web/vendor/uPlot.min.css");
pub(super) const START: &str = "import \"swath/app\";";

/// The SHA-256 of what the policy allows, in base64; a test compares.
pub(super) const MAP_HASH: &str = "tW8NU08M5GwAb/noxfaN7SJFDtkT4aNQ0/FnjXRhtvM=";
pub(super) const START_HASH: &str = "+Eyym/GGtIbcWNkPmnO2/jEzec8c2IabPYexgTsGBhU=";
pub(super) const CSS_HASH: &str = "ys5H0ayW/7Rp7vcfdHrZ0L4oq2ANFarjTkYwe8zr384=";
pub(super) const PLOT_CSS_HASH: &str = "32MMao1vjur/JktQ9zzlsRT2Rv/ZoLt08EmwoAE1+gQ=";

/// Which name is which module.
pub(super) fn import_map() -> String {
    let mut map = String::from("{\"imports\":{");
    for (number, (name, code)) in MODULES.iter().enumerate() {
        map.push_str(if number > 0 { ",\n\"" } else { "\"" });
        map.push_str(name);
        map.push_str("\":\"data:text/javascript;base64,");
        STANDARD.encode_string(code, &mut map);
        map.push('"');
    }
    map.push_str("}}");
    map
}

pub(super) fn push_head(out: &mut String, status: &Status) {
    out.push_str("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    out.push_str(&format!(
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; script-src 'sha256-{MAP_HASH}' \
         'sha256-{START_HASH}' data:; style-src 'sha256-{CSS_HASH}' 'sha256-{PLOT_CSS_HASH}'; img-src data:; \
         base-uri 'none'; form-action 'none'\">\n"
    ));
    out.push_str(
        "<meta name=\"viewport\" content=\"width=device-width\">\n<meta name=\"referrer\" content=\"no-referrer\">\n",
    );
    out.push_str("<meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" href=\"");
    out.push_str(icon(status.state));
    out.push_str("\">\n<title>");
    push_escaped(out, &format!("{} · {}", status.title, status.first_line));
    out.push_str("</title>\n<style>");
    out.push_str(PLOT_CSS);
    out.push_str("</style>\n<style>");
    out.push_str(CSS);
    out.push_str("</style>\n<script type=\"importmap\">");
    out.push_str(&import_map());
    out.push_str("</script>\n</head>\n");
}

pub(super) fn push_start(out: &mut String) {
    out.push_str("<script type=\"module\">");
    out.push_str(START);
    out.push_str("</script>\n");
}

/// A sign for the tab of a browser that says how it went.
fn icon(state: RunState) -> &'static str {
    match state {
        RunState::Failed => {
            "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Cpath \
             d='M3 3l10 10M13 3L3 13' stroke='%23C8102E' stroke-width='3'/%3E%3C/svg%3E"
        }
        _ => {
            "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Cpath \
             d='M1 3h9v3H1zM5 7h10v3H5zM2 11h7v3H2z' fill='%230E9F6E'/%3E%3C/svg%3E"
        }
    }
}
