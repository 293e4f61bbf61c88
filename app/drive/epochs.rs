//! Saves the swarm's epoch, and an id that changed while the node runs.

use std::rc::Rc;

use crate::console::Level;
use crate::node::Input;

use super::{Driver, DriverEvent, say};

impl Driver {
    /// Saves what the node wants saved, without blocking the other tasks: a card may take a second.
    pub(super) async fn save_epochs(self: Rc<Self>) {
        let mut said = false;
        while let Ok(epochs) = self.epochs.1.recv().await {
            let result = match self.state.clone() {
                Some(state) => smol::unblock(move || state.save(epochs))
                    .await
                    .map_err(|error| error.to_string()),
                None => {
                    if !said {
                        said = true;
                        let line = "no --state directory: after a restart this node learns the swarm's epoch from its peers";
                        say(&self.words, DriverEvent::Note(Level::Info, line.to_string()));
                    }
                    Ok(())
                }
            };
            self.handle(Input::Persisted { epochs, result });
        }
    }

    /// Saves the id that the node has switched to because another machine had the same one. If it
    /// cannot be saved, the next start may collide with the other machine again, and the node
    /// switches again.
    pub(super) async fn save_names(self: Rc<Self>) {
        while let Ok(node) = self.renames.1.recv().await {
            let Some(state) = self.state.clone() else { continue };
            let machine = self.machine.clone();
            let saved = smol::unblock(move || state.save_node(node, machine.as_ref())).await;
            if let Err(error) = saved {
                let line = format!(
                    "the new id {node} cannot be saved ({error}): free the card or replace it"
                );
                say(&self.words, DriverEvent::Note(Level::Warn, line));
            }
        }
    }
}
