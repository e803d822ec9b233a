//! The kit's own tests, and those of the control plane over its simulated cluster. One program: each
//! would link everything again.

mod combine;
mod compare;
mod contract;
mod disks;
mod entropy;
mod failures;
mod foreign;
mod hurry;
mod id_case;
mod incarnations;
mod keys;
mod lane;
mod order;
mod outcomes;
mod repairs;
mod restores;
mod rules;
mod simulation;
mod stores;
mod tasks;
mod topology;
mod turns;
mod unmade;
