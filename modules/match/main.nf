process MATCH {
    tag "${meta.id}"
    label 'large'

    input:
    tuple val(meta), path(tomogram, stageAs: 'tomogram/*'), path(tilt_facts), path(segment_facts)    // [] for the user's tomograms; [] where there is no segmentation
    path library, stageAs: 'library/*'
    val settings
    val contrast

    output:
    tuple val(meta), path("match/${meta.id}.picks.csv"), path("match/${meta.id}.picks.csv.json"), emit: picks, topic: published
    path "match/${meta.id}.scores.mrc*", topic: published

    script:
    def size = meta.voxel_size_angstrom ? "--voxel-size-angstrom ${meta.voxel_size_angstrom}" : ''
    def taken = tilt_facts ? "--tilt-facts ${tilt_facts}" : ''
    def sign = tilt_facts ? 'protein_dark' : contrast     // simulated ones have facts
    def found = segment_facts ? "--segment-facts ${segment_facts}" : ''
    """
    cat > settings.json <<'SETTINGS'
    ${settings}
    SETTINGS
    template-learning match --tomogram ${tomogram} --library library --id ${meta.id} --settings settings.json --contrast ${sign} ${found} ${taken} ${size} --output match
    """

    stub:
    """
    mkdir match
    touch match/${meta.id}.picks.csv match/${meta.id}.picks.csv.json match/${meta.id}.scores.mrc match/${meta.id}.scores.mrc.json
    """
}
