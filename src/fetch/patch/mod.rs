//! What a NAR differs in from one that is here: where the line is slow, a machine that has both sends that.
//!
//! A NAR is cut into frames of [`frames::FRAME`]. Each is a frame of zstd that refers to a slice of the older NAR, the *base*, at about the same
//! place; so either side holds a few MiB, whatever the size of the NARs. Whoever asks names bases that it has ([`message`]), whoever answers
//! takes the first of them that it has too. What comes is judged by the signed NAR hash as always; that each frame has a checksum of its own
//! tells a base that is damaged here from a patch that is wrong.
//!
//! * [`frames`]: how a frame is made and undone. * [`message`]: what is asked. * [`bases`]: what could serve as a base.

pub mod bases;
pub mod frames;
pub mod message;
