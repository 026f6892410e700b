// Simulated tomograms and truth -> a model.

include { TRAIN             } from '../modules/train/main'
include { CALIBRATE         } from '../modules/calibrate/main'
include { FINETUNE          } from '../modules/finetune/main'
include { section           } from './json'

workflow LEARNING {
    take:
    settings            // value: map of the seed, and of each stage to what its tasks are given
    library             // value: [library folders]
    design              // value: the table
    rows                // [meta (id), row of the design]
    missing             // value: [[id, split, stage], ...] of the rows that a stage did not finish
    simulated           // [meta, tomogram]
    truth               // [meta, labels, instances, particles.csv]
    tomograms           // [meta (id, voxel_size_angstrom or null), tomogram, annotations or [], mask or []]: the user's
    plan                // map

    main:
    seed = settings.map { all -> all.seed }
    without = missing.map { all -> all.collect { one -> one.id }.toSorted().join(',') }
    shown = rows.filter { _meta, row -> row.split != 'test' }
        .join(simulated)
        .join(truth)
        .flatMap { _meta, _row, tomogram, labels, _instances, particles -> [tomogram, labels, particles] }
        .toSortedList { a, b -> a.name <=> b.name }

    network = Channel.empty()
    if (plan.runs.train) {
        TRAIN(
            design,
            without,
            shown,
            section(settings, 'train'),
            seed,
        )
        network = TRAIN.out.network.first()
    }
    else if (plan.takes.train) {
        network = Channel.value(file("${plan.from}/train/trained.keras", checkIfExists: true))
    }

    model = Channel.empty()
    if (plan.runs.calibrate) {
        CALIBRATE(
            network,
            design,
            without,
            shown,
            section(settings, 'calibrate'),
        )
        model = CALIBRATE.out.model.first()
    }
    else if (plan.model) {
        model = Channel.value(plan.model)
    }
    else if (plan.takes.calibrate) {
        model = Channel.value(file("${plan.from}/calibrate/model.keras", checkIfExists: true))
    }
    if (plan.runs.finetune) {
        FINETUNE(
            model,
            annotated_table(tomograms),
            plan.labels == 'shape' ? library : Channel.value([]),
            section(settings, 'finetune'),
            seed,
        )
        model = FINETUNE.out.model.first()
    }

    emit:
    model               // value: what picks
}

// FINETUNE's input of the annotated tomograms, none where there are none: [CSV table, tomograms, annotations].
def annotated_table(tomograms) {
    return tomograms.filter { _meta, _tomogram, annotations, _mask -> annotations }
        .map { meta, tomogram, annotations, _mask -> meta + [tomogram: tomogram, annotations: annotations] }
        .toSortedList { a, b -> a.id <=> b.id }
        .map { all ->
            def lines = all.withIndex().collect { one, index ->
                "${one.id},tomograms/${index + 1}/${one.tomogram.name},annotations/${index + 1}/${one.annotations.name},${one.voxel_size_angstrom ?: ''}"
            }
            [(['id,path,annotations,voxel_size_angstrom'] + lines).join('\n'), all.collect { one -> one.tomogram }, all.collect { one -> one.annotations }]
        }
}
