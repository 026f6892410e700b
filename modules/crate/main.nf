process CRATE {
    tag 'index and provenance'
    label 'quick'

    input:
    val listing                                     // the published files, one relative path a line
    val about                                       // JSON of what only Nextflow knows: its version, git revision, images' hashes
    path check, stageAs: 'run/check/*'
    path sidecars, stageAs: 'run/?/*'

    output:
    path 'index.json'
    path 'ro-crate-metadata.json'

    script: // no stub: what a run publishes is its wiring
    """
    cat > listing.txt <<'LISTING'
    ${listing.replace('\n', '\n    ')}
    LISTING
    cat > about.json <<'ABOUT'
    ${about}
    ABOUT
    template-learning crate listing.txt --data run --about about.json --output .
    """
}
