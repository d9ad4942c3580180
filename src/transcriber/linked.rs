// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is linked to a pad.

use gst::prelude::*;

/// The element whose pad is linked to `pad`, in the same bin or another one.
pub(super) fn linked_element(pad: &gst::Pad) -> Option<gst::Element> {
    match pad.peer()?.parent()?.downcast::<gst::Element>() {
        Ok(element) => Some(element),
        // Leave a bin through its ghost pad.
        Err(parent) => linked_element(parent.downcast_ref::<gst::Pad>()?),
    }
}
