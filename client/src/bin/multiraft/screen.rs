//! Pictures that are drawn again and again.

use std::io::{IsTerminal as _, Write as _};

/// Cells of the bar that shows how many groups a node leads.
const BAR_CELLS: usize = 10;

const CLEAR: &str = "\x1b[H\x1b[2J";
const HIDE_CURSOR: &str = "\x1b[?25l";
const SHOW_CURSOR: &str = "\x1b[?25h";

/// Standard output. On a terminal each picture takes the place of the one before, and the cursor comes
/// back at the end, however that is reached.
pub struct Screen {
    terminal: bool,
}

impl Screen {
    /// `moving`: there is more than one picture, for people.
    pub fn new(moving: bool) -> Self {
        let terminal = moving && std::io::stdout().is_terminal();
        if terminal {
            print!("{HIDE_CURSOR}");
        }
        Self { terminal }
    }

    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    pub fn paint(&self) -> Paint {
        Paint(self.terminal && std::env::var_os("NO_COLOR").is_none())
    }

    /// False: nobody reads any more.
    pub fn show(&self, lines: &[String]) -> bool {
        let (start, end) = if self.terminal { (CLEAR, "") } else { ("", "\n") };
        let text = format!("{start}{}\n{end}", lines.join("\n"));
        let mut output = std::io::stdout().lock();
        output.write_all(text.as_bytes()).and_then(|()| output.flush()).is_ok()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.terminal {
            println!("{SHOW_CURSOR}");
        }
    }
}

pub fn bar(led: usize, groups: usize) -> String {
    let cells = (led * BAR_CELLS).div_ceil(groups.max(1)).min(BAR_CELLS);
    format!("{}{}", "█".repeat(cells), "·".repeat(BAR_CELLS - cells))
}

/// Whether colours are shown.
#[derive(Clone, Copy)]
pub struct Paint(pub bool);

impl Paint {
    fn with(self, code: u8, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub fn bold(self, text: &str) -> String {
        self.with(1, text)
    }

    pub fn red(self, text: &str) -> String {
        self.with(31, text)
    }

    pub fn green(self, text: &str) -> String {
        self.with(32, text)
    }

    pub fn yellow(self, text: &str) -> String {
        self.with(33, text)
    }
}
