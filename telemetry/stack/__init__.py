"""Run the engines and services of one machine: find, build, start, watch and stop them."""
