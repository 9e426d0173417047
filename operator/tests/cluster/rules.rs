//! Rules of the definitions, each accepted once and refused once by the server. See below.
