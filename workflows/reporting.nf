// The report, and last of all the index of the published files and the crate, whatever part of the pipeline ran.

include { json } from './json'
include { REPORT } from '../modules/report/main'
include { CRATE } from '../modules/crate/main'
include { id_of; files_among; stage_of; published_name } from './results'

workflow REPORTING {
    take:
    library             // value: [library folders]
    rows                // [meta (id), row of the design]
    missing             // value: [[id, split, stage], ...] of the rows that a stage did not finish
    tomograms           // [meta, tomogram, annotations or [], mask or []]: the user's
    earlier             // files of an earlier run that took the place of a stage's: tuples or files
    plan                // map

    main:
    published = files_among(Channel.topic('published'))                // files and folders, of every stage but REPORT
    known = published.mix(files_among(earlier))

    page = Channel.empty()
    if (plan.runs.report) {
        // Volumes of a few tomograms are enough for its pictures: the simulated ones held out, three others, three of the user's.
        own = tomograms.toSortedList { a, b -> a[0].id <=> b[0].id }.map { all -> all.take(3) }
        few = rows.toSortedList { a, b -> a[0].id <=> b[0].id }
            .map { all -> ['test', 'other'].collectMany { kind -> all.findAll { _meta, row -> (row.split == 'test') == (kind == 'test') }.take(3) } }
            .map { all -> [all.collect { meta, _row -> meta.id }] }
            .combine(own.map { all -> [all.collect { item -> item[0].id }] })
            .map { simulated, users -> [simulated + users] }
        shown = known
            .filter { one -> one.name =~ /\.(csv|json|tlt|mrc)$/ && !(stage_of(one) in ['volume', 'match', 'export']) }
            .combine(few)
            .filter { one, ids -> !one.name.endsWith('.mrc') || id_of(one) in ids }
            .map { one, _ids -> one }
            .toSortedList { a, b -> published_name(a) <=> published_name(b) }
        REPORT(
            own.map { all ->
                def annotated = all.findAll { _meta, _tomogram, annotations, _mask -> annotations }
                [all.collect { item -> item[0].id }, all.collect { item -> item[1] }, annotated.collect { item -> item[0].id }, annotated.collect { item -> item[2] }]
            },
            library.ifEmpty([]),
            shown.map { all -> [all.collect { one -> published_name(one) }, all] },
        )
        page = REPORT.out.page
    }

    // Two tasks that publish one name: the later would take the other's place.
    all_published = published.mix(page)
        .toSortedList { a, b -> published_name(a) <=> published_name(b) }
        .map { all ->
            all.countBy { one -> published_name(one) }.each { name, count -> count == 1 ?: error("${count} tasks publish ${name}; one was expected") }
            [all.collect { one -> published_name(one) }, all]
        }
    others = files_among(earlier)
        .mix(plan.runs.volume ? Channel.empty() : library.flatMap { all -> all.collectMany { folder -> folder.listFiles().toList() } })
        .filter { one -> one.name.endsWith('.json') }
        .toSortedList { a, b -> a.toString() <=> b.toString() }
    CRATE(
        all_published,
        missing.map { all -> json(plan.about + [left_out: all]) },
        others,
    )
}
