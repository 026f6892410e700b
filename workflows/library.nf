// Templates and distractors -> library folders.

include { FLEX                     } from '../modules/flex/main'
include { VOLUME                   } from '../modules/volume/main'
include { json; section            } from './json'
include { checked_id; checked_file } from './results'

workflow LIBRARY {
    take:
    settings            // value: map of the seed, and of each stage to what its tasks are given
    templates           // [meta (id, role, class_name, class_id, share, reading), structure or map]
    distractors         // [meta, structure or map]
    plan                // map

    main:
    conformers = Channel.empty()                // [meta (id), [conformers]]
    if (plan.runs.flex) {
        FLEX(
            templates.map { meta, structure -> [[id: meta.id], json(meta.reading), structure] },
            section(settings, 'flex'),
            settings.map { all -> all.seed },
        )
        conformers = FLEX.out.conformers
    }
    else if (plan.takes.flex) {
        conformers = Channel.fromPath("${plan.from}/flex/*_c*.cif.gz", checkIfExists: true)
            .map { file -> [[id: checked_id(file.name.replaceFirst(/_c\d+\.cif\.gz$/, ''))], checked_file(file)] }
            .groupTuple()
    }

    library = Channel.empty()                   // value: [library folders], sorted
    if (plan.runs.volume) {
        flexed = conformers
            .join(templates.map { meta, _structure -> [[id: meta.id], meta] })
            .map { key, files, meta ->
                def sorted = (files instanceof List ? files : [files]).toSorted { file -> file.name }
                [key, json(sorted.withIndex().collect { file, index -> molecule(file.name - '.cif.gz', meta, file, index) }), sorted]
            }
        others = distractors
            .toSortedList { a, b -> a[0].id <=> b[0].id }
            .flatMap { all -> all.collate(8).withIndex() }
            .map { batch, index ->
                def metas = batch.collect { meta, _structure -> meta }
                def files = batch.collect { _meta, structure -> structure }
                def molecules = [metas, files].transpose().withIndex().collect { one, number -> molecule(one[0].id, one[0], one[1], number) + [reading: one[0].reading] }
                [[id: "distractors_${index + 1}".toString()], json(molecules), files]
            }
        VOLUME(
            flexed.mix(others),
            section(settings, 'volume'),
        )
        library = VOLUME.out.library.toSortedList { a, b -> a.name <=> b.name }
    }
    else if (plan.takes.volume) {
        library = Channel.fromPath("${plan.from}/volume/*", type: 'dir', checkIfExists: true)
            .map { folder -> checked_file(folder) }
            .toSortedList { a, b -> a.name <=> b.name }
    }

    emit:
    library             // value: [library folders], sorted
}

// What VOLUME is told of a molecule, whose file is the ``index``-th that is staged.
def molecule(name, meta, file, index) {
    return [molecule: name, species: meta.id, role: meta.role, class_name: meta.class_name, class_id: meta.class_id, share: meta.share, file: "structures/${index + 1}/${file.name}".toString()]
}
