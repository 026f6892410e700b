// From structures to picked particles.  A stage before `start_at` is not run; what it would have made is read from `from_results`.

include { LIBRARY             } from './library'
include { SIMULATED_TOMOGRAMS } from './simulated_tomograms'
include { LEARNING            } from './learning'
include { PICKING             } from './picking'
include { REPORTING           } from './reporting'

workflow TEMPLATE_LEARNING {
    take:
    settings            // value: map of the seed, and of each stage to what its tasks are given
    own_design          // value: the user's design table as CHECK read it, or empty
    templates           // [meta (id, role, class_name, class_id, share, reading), structure or map]
    distractors         // [meta, structure or map]
    tomograms           // [meta (id, voxel_size_angstrom or null), tomogram, annotations or [], mask or []]: the user's
    plan                // map: what workflows/inputs.nf, plan_of, says

    main:
    LIBRARY(
        settings,
        templates,
        distractors,
        plan,
    )
    SIMULATED_TOMOGRAMS(
        settings,
        own_design,
        LIBRARY.out.library,
        plan,
    )
    LEARNING(
        settings,
        LIBRARY.out.library,
        SIMULATED_TOMOGRAMS.out.design,
        SIMULATED_TOMOGRAMS.out.rows,
        SIMULATED_TOMOGRAMS.out.missing,
        SIMULATED_TOMOGRAMS.out.simulated,
        SIMULATED_TOMOGRAMS.out.truth,
        tomograms,
        plan,
    )
    PICKING(
        settings,
        LIBRARY.out.library,
        SIMULATED_TOMOGRAMS.out.rows,
        SIMULATED_TOMOGRAMS.out.tilts,
        SIMULATED_TOMOGRAMS.out.simulated,
        SIMULATED_TOMOGRAMS.out.truth,
        LEARNING.out.model,
        tomograms,
        plan,
    )
    REPORTING(
        LIBRARY.out.library,
        SIMULATED_TOMOGRAMS.out.rows,
        SIMULATED_TOMOGRAMS.out.missing,
        tomograms,
        SIMULATED_TOMOGRAMS.out.earlier.mix(PICKING.out.earlier),
        plan,
    )
}
