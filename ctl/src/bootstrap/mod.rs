//! From bare hosts to a running cloud: facts, plan, phases.
