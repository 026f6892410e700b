// A model and tomograms -> picks, in the simulated tomograms held out of training and in the user's.

include { SEGMENT                           } from '../modules/segment/main'
include { CLUSTER                           } from '../modules/cluster/main'
include { MATCH                             } from '../modules/match/main'
include { EXPORT                            } from '../modules/export/main'
include { COPICK_CONFIG                     } from '../modules/export/copick_config'
include { EVALUATE as EVALUATE_SIMULATED    } from '../modules/evaluate/main'
include { EVALUATE as EVALUATE_EXPERIMENTAL } from '../modules/evaluate/main'
include { EVALUATE as EVALUATE_MATCHED      } from '../modules/evaluate/main'
include { json; section                     } from './json'
include { earlier_files; by_id              } from './results'

workflow PICKING {
    take:
    settings            // value: map of the seed, and of each stage to what its tasks are given
    library             // value: [library folders]
    rows                // [meta (id), row of the design]
    tilts               // [meta, tilt series, its facts, angles]
    simulated           // [meta, tomogram]
    truth               // [meta, labels, instances, particles.csv]
    model               // value
    tomograms           // [meta (id, voxel_size_angstrom or null), tomogram, annotations or [], mask or []]: the user's
    plan                // map

    main:
    earlier = Channel.empty()
    held_out = rows.filter { _meta, row -> row.split == 'test' }.map { meta, _row -> [meta] }
    tests = held_out.join(simulated)                                    // [meta, tomogram]
    own = tomograms.map { meta, tomogram, _annotations, _mask -> [meta + [simulated: false], tomogram] }

    segmentation = Channel.empty()              // [meta, segmentation, log-odds, facts]
    if (plan.runs.segment) {
        SEGMENT(
            tests.map { meta, tomogram -> [meta + [simulated: true], tomogram] }.mix(own),
            model,
            section(settings, 'segment'),
        )
        segmentation = SEGMENT.out.segmentation
    }
    else if (plan.takes.segment) {
        segmentation = earlier_files(plan.from, 'segment', ['.segmentation.mrc', '.log_odds.mrc', '.segmentation.mrc.json'])
        earlier = earlier.mix(segmentation)
    }

    picks = Channel.empty()                     // [meta, picks.csv, its facts]
    if (plan.runs.cluster) {
        CLUSTER(
            segmentation,
            section(settings, 'cluster'),
        )
        picks = CLUSTER.out.picks
    }
    else if (plan.takes.cluster) {
        picks = earlier_files(plan.from, 'cluster', ['.picks.csv', '.picks.csv.json'])
        earlier = earlier.mix(picks)
    }

    matched = Channel.empty()                   // [meta, picks.csv, its facts]
    if (plan.runs.match) {
        taken = Channel.empty()                 // [meta, facts of the tilt series]
        if (plan.runs.simulate) {
            taken = tilts.map { meta, _series, facts, _angles -> [meta, facts] }
        }
        else if (plan.takes.simulate) {
            taken = earlier_files(plan.from, 'simulate', ['.tilts.mrc.json'])
        }
        // SEGMENT finds the sign of a user's tomogram, where a run has SEGMENT or starts from one that had.
        signs = by_id(segmentation).map { id, _classes, _log_odds, facts -> [id, facts] }
        users = own.map { meta, tomogram -> [meta.id, meta, tomogram] }.join(signs, remainder: true)
            .filter { one -> one[1] }               // those of SEGMENT alone are simulated
            .map { _id, meta, tomogram, facts -> [meta, tomogram, [], facts ?: []] }
        MATCH(
            tests.join(taken).map { meta, tomogram, facts -> [meta, tomogram, facts, []] }.mix(users),
            library,
            section(settings, 'match'),
            settings.map { all -> all.segment.contrast },
        )
        matched = MATCH.out.picks
    }
    else if (plan.takes.match) {
        matched = earlier_files(plan.from, 'match', ['.picks.csv', '.picks.csv.json'])
        earlier = earlier.mix(matched)
    }

    if (plan.runs.export) {
        EXPORT(
            picks.join(segmentation).map { meta, table, facts, classes, _log_odds, _facts -> [meta, table, facts, classes] },
            section(settings, 'export'),
        )
        COPICK_CONFIG(
            EXPORT.out.copick_config.toSortedList { a, b -> a.toString() <=> b.toString() }.filter { all -> all },
        )
    }

    if (plan.runs.evaluate) {
        truth_simulated = by_id(held_out.join(truth)).map { id, _labels, _instances, particles -> [id, particles, []] }
        truth_experimental = by_id(tomograms.filter { _meta, _tomogram, annotations, _mask -> annotations })
            .map { id, _tomogram, annotations, mask -> [id, annotations, mask] }
        EVALUATE_SIMULATED(
            evaluation('simulated', picks, truth_simulated, by_id(tests)),
            section(settings, 'evaluate'),
        )
        EVALUATE_EXPERIMENTAL(
            evaluation('experimental', picks, truth_experimental, by_id(own)),
            section(settings, 'evaluate'),
        )
        EVALUATE_MATCHED(
            evaluation('simulated_matched', matched, truth_simulated, Channel.empty())
                .mix(evaluation('experimental_matched', matched, truth_experimental, Channel.empty())),
            section(settings, 'evaluate_matched'),
        )
    }

    emit:
    earlier             // files of an earlier run that took the place of a stage's: tuples
}

// EVALUATE's input of one set of tomograms, none where it has none: [meta (id), CSV table, picks with facts, truths, masks, tomograms].
// ``picks`` is [meta, picks.csv, its facts], ``known`` [id, truth, mask or []], ``grey`` [id, tomogram] or empty: then no plain peer is tried.
def evaluation(set, picks, known, grey) {
    return by_id(picks).join(known).join(grey, remainder: true)
        .filter { one -> one.size() > 5 && one[1] && one[3] }
        .map { id, table, facts, truth, mask, tomogram -> [id: id, table: table, facts: facts, truth: truth, mask: mask, tomogram: tomogram] }
        .toSortedList { a, b -> a.id <=> b.id }
        .filter { all -> all }
        .map { all ->
            def masks = all.findAll { one -> one.mask }.collect { one -> one.mask }
            def tomograms = all.findAll { one -> one.tomogram }.collect { one -> one.tomogram }
            def lines = all.withIndex().collect { one, index ->
                def mask = one.mask ? "masks/${masks.indexOf(one.mask) + 1}/${one.mask.name}" : ''
                def tomogram = one.tomogram ? "tomograms/${tomograms.indexOf(one.tomogram) + 1}/${one.tomogram.name}" : ''
                "${one.id},picks/${one.table.name},truth/${index + 1}/${one.truth.name},${mask},${tomogram}"
            }
            [[id: set], (['id,picks,truth,mask,tomogram'] + lines).join('\n'), all.collectMany { one -> [one.table, one.facts] }, all.collect { one -> one.truth }, masks, tomograms]
        }
}
