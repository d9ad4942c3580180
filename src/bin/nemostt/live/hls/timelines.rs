// SPDX-License-Identifier: MIT OR Apache-2.0

//! Times of the media in the session, whose times the captions have.
//!
//! Each connection has a running time of its own, which begins at 0. Its samples are placed in the session as they arrive, and
//! sometimes placed anew, later, since clocks differ.

use std::{collections::HashMap, time::Duration};

/// Samples at the running time `media` of their connection are at `session`, and those after them follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    pub media: Duration,
    pub session: Duration,
}

/// The anchors of all connections.
#[derive(Debug, Default)]
pub struct Timelines {
    /// By connection, in the order of time.
    anchors: HashMap<u32, Vec<Anchor>>,
}

impl Timelines {
    /// Samples of `connection` were placed.
    pub fn place(&mut self, connection: u32, anchor: Anchor) {
        self.anchors.entry(connection).or_default().push(anchor);
    }

    /// When in the session the running time `media` of `connection` is; `None` before any of its samples was placed.
    pub fn session(&self, connection: u32, media: Duration) -> Option<Duration> {
        let anchors = self.anchors.get(&connection)?;
        let before = anchors.iter().rev().find(|anchor| anchor.media <= media);
        let anchor = before.or(anchors.first())?;
        // What is before the session began is at its beginning.
        Some((anchor.session + media).saturating_sub(anchor.media))
    }

    /// Forgets all connections before this one.
    pub fn forget_before(&mut self, connection: u32) {
        self.anchors.retain(|&other, _| other >= connection);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_is_found_in_the_session() {
        let ms = Duration::from_millis;
        let anchor = |media, session| Anchor {
            media: ms(media),
            session: ms(session),
        };
        let mut timelines = Timelines::default();
        assert_eq!(timelines.session(0, ms(0)), None);
        timelines.place(0, anchor(0, 0));
        timelines.place(0, anchor(5_000, 5_600));
        timelines.place(1, anchor(200, 20_000));
        for (connection, media, session) in [
            (0, 4_999, 4_999),
            (0, 5_000, 5_600),
            (0, 6_000, 6_600),
            // Video that began before the sound.
            (1, 0, 19_800),
            (1, 1_200, 21_000),
        ] {
            assert_eq!(
                timelines.session(connection, ms(media)),
                Some(ms(session)),
                "{connection} {media}"
            );
        }
        timelines.forget_before(1);
        assert_eq!(timelines.session(0, ms(0)), None);
    }
}
