process CLUSTER {
    tag "${meta.id}"
    label 'medium'

    input:
    tuple val(meta), path(segmentation), path(log_odds), path(facts)
    val settings

    output:
    tuple val(meta), path("cluster/${meta.id}.picks.csv"), path("cluster/${meta.id}.picks.csv.json"), emit: picks, topic: published

    script:
    """
    cat > settings.json <<'SETTINGS'
    ${settings}
    SETTINGS
    template-learning cluster --segmentation ${segmentation} --log-odds ${log_odds} --id ${meta.id} --settings settings.json --output cluster
    """

    stub:
    """
    mkdir cluster
    touch cluster/${meta.id}.picks.csv cluster/${meta.id}.picks.csv.json
    """
}
