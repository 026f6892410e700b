// From structures to picked particles: wiring only.  A stage before `start_at` is not run; what it would have made is
// read from `from_results`.  Channel shapes stand where the channels are made.

include { FLEX        } from '../modules/flex/main'
include { VOLUME      } from '../modules/volume/main'
include { DESIGN      } from '../modules/design/main'
include { TETRIS      } from '../modules/tetris/main'
include { SIMULATE    } from '../modules/simulate/main'
include { RECONSTRUCT } from '../modules/reconstruct/main'
include { LABEL       } from '../modules/label/main'
include { TRAIN       } from '../modules/train/main'
include { CALIBRATE   } from '../modules/calibrate/main'
include { FINETUNE    } from '../modules/finetune/main'
include { SEGMENT     } from '../modules/segment/main'
include { CLUSTER     } from '../modules/cluster/main'
include { MATCH       } from '../modules/match/main'
include { EXPORT      } from '../modules/export/main'
include { EVALUATE as EVALUATE_SIMULATED    } from '../modules/evaluate/main'
include { EVALUATE as EVALUATE_EXPERIMENTAL } from '../modules/evaluate/main'
include { EVALUATE as EVALUATE_MATCHED      } from '../modules/evaluate/main'
include { REPORT      } from '../modules/report/main'
include { CRATE       } from '../modules/crate/main'
include { json        } from './json'

// The part of a file's name before the first of the endings that stages give their files.
def id_of(file) {
    return file.name.replaceFirst(/\.(placed\.csv|tilts\.mrc|tlt|labels\.mrc|instances\.mrc|particles\.csv|segmentation\.mrc|probability\.mrc|picks\.csv|scores\.mrc|mrc)(\.json)?$/, '')
}

// Ids and files stand in the tasks' scripts.  CHECK looks at the ids of a run's own inputs; this at those of earlier results.
def checked_id(id) {
    return id ==~ /[A-Za-z0-9][A-Za-z0-9_.-]{0,63}/ ? id : error("id '${id}': only letters, digits, '_', '-' and '.' are allowed (at most 64, starting with a letter or digit)")
}

// Nextflow quotes the files of a task, save `$` and line breaks; what a name of ours may not hold either could end a quotation.
def checked_file(options = [:], source) {
    def one = file([glob: false] + options, source)
    if (one.toString() =~ /[\x00-\x1f\x7f$]/ || one.name =~ /['"`\\;&|<>]/) {
        error("file '${one}': control characters and \$ are not allowed in a path, nor quotes and any of \\ ; & | < > in a file's name")
    }
    return one
}

// What an earlier run published, as tuples (id, file of the first pattern, file of the second, ...).
def published(from, stage, endings) {
    def first = Channel.fromPath("${from}/${stage}/*${endings[0]}", checkIfExists: true).map { file -> tuple(checked_id(id_of(file)), checked_file(file)) }
    return first.map { id, file -> [id] + endings.collect { ending -> file.resolveSibling("${id}${ending}") } }
}

workflow TEMPLATE_LEARNING {
    take:
    settings            // value: map of all settings, checked
    stage_settings      // value: map, stage -> what its tasks are given of them
    check_files         // value: list of what CHECK wrote
    templates           // (row: map of id, role, class_name, class_id, share, reading; structure or map)
    distractors         // (row, structure)
    tomograms           // (id, tomogram, annotations or [], mask or [], voxel size or '')
    plan                // map: runs (stage -> boolean), labels (of FINETUNE), from (results folder or null), model (file or null), design_table (file or null), about (for the crate)

    main:
    // --- one line of JSON a stage: a change in one section re-runs that stage and what depends on it, no other
    seed = settings.map { all -> all.seed }
    of = ['flex', 'volume', 'design', 'tetris', 'simulate', 'reconstruct', 'label', 'train', 'segment', 'cluster', 'match', 'export', 'evaluate', 'calibrate', 'finetune', 'evaluate_matched'].collectEntries { stage ->
        [stage, stage_settings.map { all -> json(all[stage]) }]
    }
    none = Channel.empty()

    // --- templates and distractors -> library folders
    flex_facts = none
    conformers = none                                                   // (id, [conformers])
    if (plan.runs.flex) {
        FLEX(templates.map { row, structure -> tuple(row.id, json(row.reading), structure) }, of.flex, seed)
        conformers = FLEX.out.conformers
        flex_facts = FLEX.out.facts
    }
    else if (plan.runs.volume) {
        conformers = Channel.fromPath("${plan.from}/flex/*_c*.cif.gz", checkIfExists: true)
            .map { file -> tuple(checked_id(file.name.replaceFirst(/_c\d+\.cif\.gz$/, '')), checked_file(file)) }
            .groupTuple()
    }
    library = none                                                      // [library folders], sorted: one item
    if (plan.runs.volume) {
        flexed = conformers
            .join(templates.map { row, _structure -> tuple(row.id, row) })
            .map { id, files, row ->
                def sorted = (files instanceof List ? files : [files]).toSorted { file -> file.name }
                def molecules = sorted.withIndex().collect { file, index ->
                    [molecule: file.name - '.cif.gz', species: id, role: row.role, class_name: row.class_name, class_id: row.class_id,
                     share: row.share, file: "structures/${index + 1}/${file.name}"]
                }
                tuple(id, json(molecules), sorted)
            }
        others = distractors
            .toSortedList { a, b -> a[0].id <=> b[0].id }
            .flatMap { all -> all.collate(8).withIndex().collect { batch, number -> tuple(number + 1, batch) } }
            .map { number, batch ->
                def molecules = batch.withIndex().collect { item, index ->
                    [molecule: item[0].id, species: item[0].id, role: item[0].role, class_name: '', class_id: 0, share: item[0].share,
                     file: "structures/${index + 1}/${item[1].name}", reading: item[0].reading]
                }
                tuple("distractors_${number}", json(molecules), batch.collect { item -> item[1] })
            }
        VOLUME(flexed.mix(others), of.volume)
        library = VOLUME.out.library.toSortedList { a, b -> a.name <=> b.name }
    }
    else if (plan.runs.tetris || plan.runs.simulate || plan.runs.label || plan.runs.match || (plan.runs.finetune && plan.labels == 'shape')) {
        library = Channel.fromPath("${plan.from}/volume/*", type: 'dir', checkIfExists: true).map { folder -> checked_file(folder) }.toSortedList { a, b -> a.name <=> b.name }
    }

    // --- which tomograms
    design_facts = none
    design = none                                                       // the table: one item
    if (plan.design_table) {
        design = Channel.value(plan.design_table)
    }
    else if (plan.runs.design) {
        DESIGN(of.design, seed)
        design = DESIGN.out.table
        design_facts = DESIGN.out.facts
    }
    else if (plan.from && file("${plan.from}/design/design.csv").exists()) {
        design = Channel.value(file("${plan.from}/design/design.csv"))
    }
    rows = design.splitCsv(header: true).map { row -> tuple(checked_id(row.id), row) }      // (id, row of the design)

    // --- samples, tilt series, tomograms, truth
    placed = none                                                       // (id, placed.csv, its facts)
    if (plan.runs.tetris) {
        TETRIS(rows.map { id, _row -> id }, library, of.tetris, seed)
        placed = TETRIS.out.placed
    }
    else if (plan.runs.simulate || plan.runs.label) {
        placed = published(plan.from, 'tetris', ['.placed.csv', '.placed.csv.json'])
    }
    waves = none
    tilts = none                                                        // (id, tilt series, its facts, angles)
    if (plan.runs.simulate) {
        SIMULATE(rows.join(placed).map { id, row, table, facts -> tuple(id, json(row.findAll { _k, v -> v != '' }), table, facts) }, library, of.simulate, seed)
        tilts = SIMULATE.out.tilts
        waves = SIMULATE.out.waves
    }
    else if (plan.runs.reconstruct) {
        tilts = published(plan.from, 'simulate', ['.tilts.mrc', '.tilts.mrc.json', '.tlt'])
    }
    simulated = none                                                    // (id, tomogram)
    reconstruct_facts = none
    if (plan.runs.reconstruct) {
        RECONSTRUCT(tilts, of.reconstruct)
        simulated = RECONSTRUCT.out.tomogram
        reconstruct_facts = RECONSTRUCT.out.facts
    }
    else if (plan.from && (plan.runs.label || plan.runs.train || plan.runs.calibrate || plan.runs.segment || plan.runs.match || plan.runs.report) && file("${plan.from}/reconstruct").exists()) {
        simulated = published(plan.from, 'reconstruct', ['.mrc'])
    }
    truth = none                                                        // (id, labels, instances, particles.csv)
    label_facts = none
    if (plan.runs.label) {
        LABEL(placed.join(simulated), library, of.label)
        truth = LABEL.out.truth
        label_facts = LABEL.out.facts
    }
    else if (plan.from && (plan.runs.train || plan.runs.calibrate || plan.runs.segment || plan.runs.evaluate || plan.runs.report) && file("${plan.from}/label").exists()) {
        truth = published(plan.from, 'label', ['.labels.mrc', '.instances.mrc', '.particles.csv'])
    }

    // --- the network
    shown = rows.filter { _id, row -> row.split != 'test' }
        .join(simulated)
        .join(truth)
        .map { _id, _row, tomogram, labels, _instances, particles -> [tomogram, labels, particles] }
        .flatMap { files -> files }
        .toSortedList { a, b -> a.name <=> b.name }
    history = none
    train_facts = none
    network = none
    if (plan.runs.train) {
        TRAIN(design, shown, of.train, seed)
        network = TRAIN.out.network
        history = TRAIN.out.history
        train_facts = TRAIN.out.facts
    }
    else if (plan.runs.calibrate) {
        network = Channel.value(file("${plan.from}/train/trained.keras", checkIfExists: true))
    }
    model = none
    calibrate_facts = none
    if (plan.runs.calibrate) {
        CALIBRATE(network, design, shown, of.calibrate)
        model = CALIBRATE.out.model
        calibrate_facts = CALIBRATE.out.facts
    }
    else if (plan.model) {
        model = Channel.value(plan.model)
    }
    else if (plan.runs.segment || plan.runs.finetune) {
        model = Channel.value(file("${plan.from}/calibrate/model.keras", checkIfExists: true))
    }
    finetune_facts = none
    if (plan.runs.finetune) {
        annotated = tomograms.filter { _id, _tomogram, annotations, _mask, _voxel_size -> annotations }
            .toSortedList { a, b -> a[0] <=> b[0] }
            .map { all ->
                def lines = all.withIndex().collect { item, index -> "${item[0]},tomograms/${index + 1}/${item[1].name},annotations/${index + 1}/${item[2].name},${item[4]}" }
                tuple((['id,path,annotations,voxel_size_angstrom'] + lines).join('\n'), all.collect { item -> item[1] }, all.collect { item -> item[2] })
            }
        shapes = plan.labels == 'shape' ? library : Channel.value([])
        FINETUNE(model, annotated, shapes, of.finetune, seed)
        model = FINETUNE.out.model
        finetune_facts = FINETUNE.out.facts.flatten()
    }

    // --- picks: in the simulated tomograms held out of training, and in the user's
    tests = rows.filter { _id, row -> row.split == 'test' }.join(simulated).map { id, _row, tomogram -> tuple(id, tomogram, '') }
    targets = tests.map { id, tomogram, size -> tuple(id, tomogram, size, true) }.mix(tomograms.map { id, tomogram, _annotations, _mask, voxel_size -> tuple(id, tomogram, voxel_size, false) })
    segmentation = none                                                 // (id, segmentation, probability, facts)
    if (plan.runs.segment) {
        SEGMENT(targets, model, of.segment)
        segmentation = SEGMENT.out.segmentation
    }
    else if (plan.runs.cluster) {
        segmentation = published(plan.from, 'segment', ['.segmentation.mrc', '.probability.mrc', '.segmentation.mrc.json'])
    }
    picks = none                                                        // (id, picks.csv, its facts)
    if (plan.runs.cluster) {
        CLUSTER(segmentation, of.cluster)
        picks = CLUSTER.out.picks
    }
    else if (plan.runs.evaluate && !plan.runs.export) {
        picks = published(plan.from, 'cluster', ['.picks.csv', '.picks.csv.json'])
    }
    matched = none                                                      // (id, picks.csv, its facts)
    match_files = none
    if (plan.runs.match) {
        taken = none                                                    // (id, facts of the tilt series)
        if (plan.runs.simulate) {
            taken = tilts.map { id, _series, facts, _angles -> tuple(id, facts) }
        }
        else if (plan.from && file("${plan.from}/simulate").exists()) {
            taken = published(plan.from, 'simulate', ['.tilts.mrc.json'])
        }
        MATCH(tests.join(taken).mix(tomograms.map { id, tomogram, _annotations, _mask, voxel_size -> tuple(id, tomogram, voxel_size, []) }), library, of.match, settings.map { all -> all.segment.contrast })
        matched = MATCH.out.picks
        match_files = matched.flatMap { item -> item.drop(1) }.mix(MATCH.out.scores.flatten())
    }
    else if (plan.runs.evaluate && plan.from && file("${plan.from}/match").exists()) {
        matched = published(plan.from, 'match', ['.picks.csv', '.picks.csv.json'])
    }
    exported = none                                                     // (id, [files and folders])
    if (plan.runs.export) {
        if (!plan.runs.cluster) {
            picks = published(plan.from, 'cluster', ['.picks.csv', '.picks.csv.json'])
            segmentation = published(plan.from, 'segment', ['.segmentation.mrc', '.probability.mrc', '.segmentation.mrc.json'])
        }
        EXPORT(picks.join(segmentation).map { id, table, facts, classes, _probability, _facts -> tuple(id, table, facts, classes) }, of.export)
        exported = EXPORT.out.files
    }
    scores = none                                                       // (set, evaluation.json, curve.csv, per_tomogram.csv)
    if (plan.runs.evaluate) {
        known = [                                                       // set -> (id, truth, mask or [])
            simulated: rows.filter { _id, row -> row.split == 'test' }.map { id, _row -> tuple(id) }
                .join(truth.map { id, _labels, _instances, particles -> tuple(id, particles, []) }),
            experimental: tomograms.filter { _id, _tomogram, annotations, _mask, _voxel_size -> annotations }
                .map { id, _tomogram, annotations, mask, _voxel_size -> tuple(id, annotations, mask) },
        ]
        EVALUATE_SIMULATED(evaluation('simulated', picks.join(known.simulated)), of.evaluate)
        EVALUATE_EXPERIMENTAL(evaluation('experimental', picks.join(known.experimental)), of.evaluate)
        EVALUATE_MATCHED(evaluation('simulated_matched', matched.join(known.simulated)).mix(evaluation('experimental_matched', matched.join(known.experimental))), of.evaluate_matched)
        scores = EVALUATE_SIMULATED.out.scores.mix(EVALUATE_EXPERIMENTAL.out.scores, EVALUATE_MATCHED.out.scores)
    }

    // --- the report, with the large volumes of the tomograms that were picked in only
    files_of = [
        check: check_files.flatMap { all -> all },
        flex: flex_facts,
        design: (plan.design_table ? none : design).mix(design_facts),
        tetris: placed.flatMap { item -> item.drop(1) },
        simulate: tilts.flatMap { item -> item.drop(1) },
        reconstruct: simulated.map { item -> item[1] }.mix(reconstruct_facts),
        label: truth.flatMap { item -> item.drop(1) }.mix(label_facts.flatten()),
        train: history.mix(train_facts.flatten()),
        calibrate: calibrate_facts,
        finetune: finetune_facts,
        segment: segmentation.flatMap { item -> item.drop(1) },
        cluster: picks.flatMap { item -> item.drop(1) },
        evaluate: scores.flatMap { item -> item.drop(1) },
    ]
    page = none
    if (plan.runs.report) {
        // Volumes of a few tomograms are enough for its pictures: the simulated ones held out, three others, three of the user's.
        few = rows.toSortedList { a, b -> a[0] <=> b[0] }
            .map { all -> (all.findAll { item -> item[1].split == 'test' }.take(3) + all.findAll { item -> item[1].split != 'test' }.take(3)).collect { item -> item[0] } }
            .combine(tomograms.toSortedList { a, b -> a[0] <=> b[0] }.map { all -> [all.take(3).collect { item -> item[0] }] })
            .map { parts -> [parts.flatten()] }
        staged = files_of.collectEntries { stage, files ->
            [stage, files.combine(few)
                .filter { one, ids -> !one.name.endsWith('.mrc') || id_of(one) in ids }
                .map { one, _ids -> one }
                .toSortedList { a, b -> a.name <=> b.name }]
        }
        own = tomograms.toSortedList { a, b -> a[0] <=> b[0] }.map { all -> all.take(3) }       // the user's tomograms and annotations
        REPORT(own.map { all -> all.collect { item -> item[0] } }, own.map { all -> all.collect { item -> item[1] } },
            own.map { all -> all.findAll { item -> item[2] }.collect { item -> item[0] } }, own.map { all -> all.findAll { item -> item[2] }.collect { item -> item[2] } },
            check_files, library.ifEmpty([]), staged.flex, staged.design, staged.tetris, staged.simulate, staged.reconstruct, staged.label,
            staged.train, staged.calibrate, staged.finetune, staged.segment, staged.cluster, staged.evaluate)
        page = REPORT.out.page
    }

    // --- last of all the index of the published files and the crate, whatever part of the pipeline ran
    more = [
        flex: conformers.flatMap { _id, files -> files },
        volume: library.flatMap { all -> all.collectMany { folder -> files_at(folder, folder.name) } },
        simulate: waves.flatten(),
        match: match_files,
        train: plan.runs.train ? network : none,
        calibrate: plan.runs.calibrate ? CALIBRATE.out.model : none,
        finetune: plan.runs.finetune ? FINETUNE.out.model : none,
        export: exported.flatMap { _id, files -> (files instanceof List ? files : [files]).collectMany { one -> files_at(one, one.name) } },
        report: page,
    ]
    names_of = [files_of, more].collectMany { group ->
        group.collect { stage, files -> files.map { one -> "${stage}/${one instanceof String ? one : one.name}".toString() } }
    }
    listing = names_of.inject(Channel.of('index.json', 'ro-crate-metadata.json')) { all, names -> all.mix(names) }
        .toSortedList()
        .map { names -> names.toUnique().join('\n') }
    in_library = library.flatMap { all -> all.collectMany { folder -> folder.listFiles().toList() } }
    sidecars = (files_of.findAll { stage, _files -> stage != 'check' }.values() + [match_files, in_library])
        .inject(none) { all, files -> all.mix(files) }
        .filter { one -> one.name.endsWith('.json') }
        .toSortedList { a, b -> a.toString() <=> b.toString() }
    CRATE(listing, json(plan.about), check_files, sidecars)
}

// A file's name, or those of all files below a folder, as they are published below their stage's folder.
def files_at(one, name) {
    return one.isDirectory() ? one.listFiles().collectMany { inner -> files_at(inner, "${name}/${inner.name}".toString()) } : [name]
}

// EVALUATE's input of one set of tomograms, none where it has none: (set, CSV table, picks with facts, truths, masks).
// ``scored`` is (id, picks, facts, truth, mask or []).
def evaluation(set, scored) {
    return scored.toSortedList { a, b -> a[0] <=> b[0] }.filter { all -> all }.map { all ->
        def masks = all.findAll { item -> item[4] }.collect { item -> item[4] }
        def lines = all.withIndex().collect { item, index ->
            def mask = item[4] ? "masks/${masks.indexOf(item[4]) + 1}/${item[4].name}" : ''
            "${item[0]},picks/${item[1].name},truth/${index + 1}/${item[3].name},${mask}"
        }
        tuple(set, (['id,picks,truth,mask'] + lines).join('\n'), all.collectMany { item -> [item[1], item[2]] }, all.collect { item -> item[3] }, masks)
    }
}
