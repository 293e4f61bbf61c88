//! Bytes from a serial line. A terminal that knows escape sequences, one that does not, and one at
//! the end of a cable get the same bytes, with notes, answers and pauses in between. Input is
//! parsed, and output stays bounded.

#![no_main]

use libfuzzer_sys::fuzz_target;

use potluck::console::{Screen, Typed, harmless, parse};
use potluck::id::Millis;
use potluck::limits::{MAX_PROMPT_BYTES, MAX_TERMINAL_OUTPUT_BYTES};

fuzz_target!(|data: &[u8]| {
    for mut screen in [Screen::new(true), Screen::new(false), Screen::on_cable(true)] {
        let mut now = 0;
        screen.invite();
        let mut rest = data;
        while let [act, after @ ..] = rest {
            let (bytes, after) = after.split_at(after.len().min(usize::from(*act) / 4));
            rest = after;
            match act % 4 {
                0 => screen.note(&String::from_utf8_lossy(bytes)),
                1 => screen.say(&String::from_utf8_lossy(bytes)),
                2 => screen.set_columns(usize::from(*act)),
                _ => {
                    now += u64::from(*act);
                    screen.at(Millis(now));
                    screen.pause();
                }
            }
            let mut left = bytes;
            while !left.is_empty() {
                let taken = screen.feed(left);
                left = &left[taken..];
                while let Some(typed) = screen.poll() {
                    if let Typed::Line(line) = typed {
                        assert!(line.len() <= MAX_PROMPT_BYTES);
                        if let Err(error) = parse(&line) {
                            let told = error.to_string();
                            assert_eq!(told, harmless(&told), "an error with terminal control characters");
                        }
                    }
                    screen.invite();
                }
                assert!(screen.output().len() <= MAX_TERMINAL_OUTPUT_BYTES + 4_096);
                if taken == 0 {
                    screen.sent(screen.output().len());
                }
            }
        }
    }
});
