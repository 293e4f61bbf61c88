//! The node's view of stop strings: it knows tokens, not text.

use core::fmt;

use crate::id::TokenId;
use crate::node::Watch;
use crate::tokenizer::Tokenizer;

use super::Answer;

/// Follows an answer in the node, by the same rules as the [`Answer`] that is shown.
pub struct StopWatch(Answer<'static>);

impl StopWatch {
    /// A watch for an answer that ends before the first of these texts; none if there are no texts.
    pub fn over(tokenizer: &'static Tokenizer, stops: &[String]) -> Option<Box<dyn Watch>> {
        let watch =
            || -> Box<dyn Watch> { Box::new(StopWatch(Answer::new(tokenizer).until(stops))) };
        (!stops.is_empty()).then(watch)
    }
}

impl fmt::Debug for StopWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StopWatch").field(&self.0.text()).finish()
    }
}

impl Watch for StopWatch {
    fn ends_with(&mut self, token: TokenId) -> bool {
        self.0.push(token);
        self.0.is_stopped()
    }
}
