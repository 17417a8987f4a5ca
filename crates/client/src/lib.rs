//! What Rust users link: session, campaign, leadership, observe, keys.
