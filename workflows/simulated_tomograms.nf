// Library -> samples, tilt series, tomograms and truth.

include { DESIGN                     } from '../modules/design/main'
include { TETRIS                     } from '../modules/tetris/main'
include { SIMULATE                   } from '../modules/simulate/main'
include { RECONSTRUCT                } from '../modules/reconstruct/main'
include { LABEL                      } from '../modules/label/main'
include { json; section; with_section } from './json'
include { checked_id                 } from './results'
include { earlier_files              } from './results'
include { left_out                   } from './left_out'

workflow SIMULATED_TOMOGRAMS {
    take:
    settings            // value: map of the seed, and of each stage to what its tasks are given
    own_design          // value: the user's table as CHECK read it, or empty
    library             // value: [library folders]
    plan                // map

    main:
    seed = settings.map { all -> all.seed }
    earlier = Channel.empty()

    // --- which tomograms
    design = Channel.empty()
    if (plan.design_table) {
        design = own_design
    }
    else if (plan.runs.design) {
        DESIGN(
            section(settings, 'design'),
            seed,
        )
        design = DESIGN.out.table.first()
    }
    else if (plan.takes.design) {
        design = Channel.value(file("${plan.from}/design/design.csv"))
        earlier = earlier.mix(design)
    }
    rows = design.splitCsv(header: true).map { row -> [[id: checked_id(row.id)], row] }
    groups = rows.map { meta, row -> [meta.id, row.group] }.toList().map { all -> all.collectEntries() }

    // --- samples
    placed = Channel.empty()                    // [meta, placed.csv, its facts]
    if (plan.runs.tetris) {
        TETRIS(
            with_section(rows.map { meta, _row -> [meta] }, groups, settings, 'tetris'),
            library,
            seed,
        )
        placed = TETRIS.out.placed
    }
    else if (plan.takes.tetris) {
        placed = earlier_files(plan.from, 'tetris', ['.placed.csv', '.placed.csv.json'])
        earlier = earlier.mix(placed)
    }

    // --- tilt series
    tilts = Channel.empty()
    if (plan.runs.simulate) {
        SIMULATE(
            with_section(
                rows.join(placed).map { meta, row, table, facts -> [meta, json(row.findAll { _column, value -> value != '' }), table, facts] },
                groups,
                settings,
                'simulate',
            ),
            library,
            seed,
        )
        tilts = SIMULATE.out.tilts
    }
    else if (plan.takes.simulate && plan.runs.reconstruct) {
        tilts = earlier_files(plan.from, 'simulate', ['.tilts.mrc', '.tilts.mrc.json', '.tlt'])
        earlier = earlier.mix(tilts)
    }

    // --- tomograms
    simulated = Channel.empty()
    if (plan.runs.reconstruct) {
        RECONSTRUCT(
            with_section(tilts, groups, settings, 'reconstruct'),
            seed,
        )
        simulated = RECONSTRUCT.out.tomogram
    }
    else if (plan.takes.reconstruct) {
        simulated = earlier_files(plan.from, 'reconstruct', ['.mrc'])
        earlier = earlier.mix(simulated)
    }

    // --- truth
    truth = Channel.empty()
    if (plan.runs.label) {
        LABEL(
            with_section(placed.join(simulated), groups, settings, 'label'),
            library,
        )
        truth = LABEL.out.truth
    }
    else if (plan.takes.label) {
        truth = earlier_files(plan.from, 'label', ['.labels.mrc', '.instances.mrc', '.particles.csv'])
        earlier = earlier.mix(truth)
    }

    // --- what failed, here or in the earlier run that is gone on from; it ends the run where too much did
    learns = plan.runs.train || plan.runs.calibrate
    stages = ['tetris', 'simulate', 'reconstruct', 'label'].findAll { stage -> plan.runs[stage] || (learns && stage in ['reconstruct', 'label']) }
    missing = Channel.value([])
    if (stages) {
        designed = rows.map { meta, row -> [meta.id, row.split] }.toList()
        made = placed.map { item -> ['tetris', item[0].id] }
            .mix(tilts.map { item -> ['simulate', item[0].id] })
            .mix(simulated.map { item -> ['reconstruct', item[0].id] })
            .mix(truth.map { item -> ['label', item[0].id] })
            .toList()
        missing = designed.map { all -> [all] }
            .combine(made.map { all -> [all] })
            .combine(settings.map { all -> all.minimum_fraction_left })
            .map { all, done, least -> left_out(all, done, stages, least) }
    }

    emit:
    design              // value: the table
    rows                // [meta (id), row of the design]
    missing             // value: [[id, split, stage], ...] of the rows that a stage did not finish
    tilts               // [meta, tilt series, its facts, angles]
    simulated           // [meta, tomogram]
    truth               // [meta, labels, instances, particles.csv]
    earlier             // files of an earlier run that took the place of a stage's: tuples or files
}
