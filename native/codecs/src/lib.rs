//! greenroom-codecs.
