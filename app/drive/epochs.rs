//! How the swarm's epoch comes to the card.

use std::rc::Rc;

use crate::console::Level;
use crate::node::Input;

use super::{Driver, Word, say};

impl Driver {
    /// Saves what the node wants saved, away from the other tasks: a card may take a second.
    pub(super) async fn save_epochs(self: Rc<Self>) {
        let mut said = false;
        while let Ok(epochs) = self.epochs.1.recv().await {
            let result = match self.state.clone() {
                Some(state) => smol::unblock(move || state.save(epochs)).await.map_err(|error| error.to_string()),
                None => {
                    if !said {
                        said = true;
                        let line = "no --state directory: after a restart this node learns the swarm's epoch from its peers";
                        say(&self.words, Word::Note(Level::Info, line.to_string()));
                    }
                    Ok(())
                }
            };
            self.handle(Input::Persisted { epochs, result });
        }
    }
}
