//! What hzctl does on the servers themselves, under the hidden `hzctl node`.
