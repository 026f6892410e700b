process CRATE {
    tag 'index and provenance'
    label 'medium'

    input:
    tuple val(names), path(files, stageAs: 'files/?/*')      // all that is published, by its name below outdir, sorted
    val about                                       // JSON of what only Nextflow knows: its version, git revision, images' hashes
    path earlier, stageAs: 'earlier/?/*'            // sidecars of an earlier run that this one goes on from

    output:
    path 'index.json'
    path 'ro-crate-metadata.json'

    script: // no stub: what a run publishes is its wiring
    def links = [names, [files].flatten()].transpose()
    """
    mkdir -p ${names.collect { name -> "run/${name}".replaceFirst('/[^/]+$', '') }.unique().join(' ')}
    ${links.collect { name, one -> "ln -s \"\$PWD\"/${one} 'run/${name}'" }.join('\n    ')}
    cat > about.json <<'ABOUT'
    ${about}
    ABOUT
    template-learning crate run --earlier earlier --about about.json --output .
    """
}
