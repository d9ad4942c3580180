// SPDX-License-Identifier: MIT OR Apache-2.0

//! GStreamer element `nemostt`: live speech to text with NVIDIA NeMo's cache-aware streaming FastConformer models.
//!
//! This is the element alone, thin glue around the crate [`nemostt`]; that recognizes speech and knows nothing of GStreamer.
//! `docs/design.md` has the tour.

mod transcriber;

mod plugin {
    #![allow(missing_docs, unsafe_code)] // what the macro writes

    fn init(plugin: &gst::Plugin) -> Result<(), gst::glib::BoolError> {
        super::transcriber::register(plugin)
    }

    gst::plugin_define!(
        nemostt,
        env!("CARGO_PKG_DESCRIPTION"),
        init,
        concat!(env!("CARGO_PKG_VERSION"), "-", env!("COMMIT_ID")),
        "MIT/X11",
        env!("CARGO_PKG_NAME"),
        env!("CARGO_PKG_NAME"),
        "Unknown package origin", // as GStreamer itself says where there is no address
        env!("BUILD_REL_DATE")
    );
}

pub use plugin::plugin_register_static;
